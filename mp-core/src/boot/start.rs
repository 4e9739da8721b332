//! What parent and child say to each other over the control socket: one message each way.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::call::EncodedCall;
use crate::current::Identity;
use crate::handle;
use crate::outcome::Outcome;

/// From the parent: who the child is and what it runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) identity: Identity,
    pub(crate) call: EncodedCall,
    #[serde(with = "handle::fd")]
    pub(crate) lifeline: OwnedFd,
    /// The end of the parent is not that of the child.
    pub(crate) outlive_parent: bool,
    /// The soft and the hard limit of the stack, if they are to be set.
    pub(crate) stack: Option<(u64, u64)>,
    /// The parent's first argument, if the child was started with its title in that place.
    #[serde(with = "serde_bytes")]
    pub(crate) program: Option<Vec<u8>>,
    pub(crate) message_limit: u64,
}

/// From the child: how it went. A child that is killed says nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The function ran, or could not be called.
    Outcome(Outcome),
    /// The process did not become a child.
    NotStarted(String),
}
