//! What a pool and its workers say to each other.

use std::sync::Arc;

use mp_core::raw::{EncodedCall, Outcome};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// From the pool to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To run a task.
    Run { task: u64, call: SharedCall },
    /// To end, once everything before is done.
    Exit,
}

/// A call that can be kept while it is under way.
#[derive(Clone, Debug)]
pub(crate) struct SharedCall(Arc<EncodedCall>);

impl SharedCall {
    pub(crate) fn new(call: EncodedCall) -> Self {
        Self(Arc::new(call))
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.0.has_handles()
    }

    pub(crate) fn run(self) -> Outcome {
        match Arc::try_unwrap(self.0) {
            Ok(call) => call.run(),
            Err(_) => unreachable!("a call that was received is shared with nobody"),
        }
    }
}

impl Serialize for SharedCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        EncodedCall::deserialize(deserializer).map(Self::new)
    }
}

/// From a worker to the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It has started, and will run what it is sent.
    Ready,
    /// A task is done.
    Done { task: u64, outcome: Outcome },
    /// A request arrived that cannot be read, for lack of descriptors for example, and why.
    Unreadable(String),
}
