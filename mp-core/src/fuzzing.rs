//! What the fuzz targets use beneath the public interface: the codec, and the messages between
//! parent and child.
//!
//! It exists only under `--cfg fuzzing`, which `cargo fuzz` sets.

use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::call::EncodedCall;
use crate::codec::{self, DecodeError, EncodeError, Input};
use crate::descriptor::SharedFd;
use crate::outcome::Outcome;
use crate::{boot, current, message};

/// Encodes a value as every transport does.
///
/// # Errors
///
/// Fails if sending the value would fail to encode it.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<(Vec<u8>, Vec<SharedFd>), EncodeError> {
    let mut bytes = Vec::new();
    let descriptors = message::encode_into(value, &mut bytes)?;
    Ok((bytes, descriptors))
}

/// Decodes a value as every transport does.
///
/// # Errors
///
/// Fails if receiving the value would fail to decode it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<impl Into<SharedFd>>) -> Result<T, DecodeError> {
    let descriptors = descriptors.into_iter().map(Into::into).collect();
    message::decode(Input::whole(&mut bytes.to_vec()), descriptors)
}

/// A start message.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Start(boot::Start);

impl Start {
    /// Makes the message that a parent would send to its next child.
    pub fn new(name: Option<String>, call: EncodedCall, lifeline: OwnedFd, program: Option<Vec<u8>>) -> Self {
        let identity = current::Identity::of_next_child(name);
        let message_limit = codec::message_limit();
        let own = boot::OwnSettings::default();
        let lifeline = lifeline.into();
        Self(boot::Start { identity, call, lifeline, outlive_parent: false, stack: None, program, message_limit, own })
    }

    /// The call that the child is to run.
    pub fn into_call(self) -> EncodedCall {
        self.0.call
    }
}

/// A child's report.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(boot::Report);

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self(boot::Report::Outcome(outcome))
    }
}

impl Report {
    /// The outcome of the call, if the child got that far.
    pub fn into_outcome(self) -> Option<Outcome> {
        match self.0 {
            boot::Report::Outcome(outcome) => Some(outcome),
            _ => None,
        }
    }
}
