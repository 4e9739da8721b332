//! What the pool and a worker say to each other over their connection: what does not go through the
//! [board](crate::board).
//!
//! The connection carries what is long or holds descriptors, the first words of a worker, and the
//! packets that wake a side that sleeps. The pool allows one packet to wake it for each time that
//! it goes to sleep; a worker that sends anything else breaks the protocol.

use std::sync::Arc;

use mp_core::raw::{Message, Outcome};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// From the pool to a worker, over the connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// It is worth looking at the board.
    Wake,
    /// The arguments of a call whose entry says so.
    Message(Shared<Message>),
}

/// From a worker to the pool, over the connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToPool {
    /// It is worth looking at the board.
    Wake,
    /// The worker has started, and will run what it is sent.
    Ready,
    /// The initializer did not return, or returned an error.
    NotReady(String),
    /// How the call of this number ended, whose entry says so.
    Outcome(u32, Outcome),
}

/// What can be kept while it is under way.
#[derive(Debug)]
pub(crate) struct Shared<T>(pub(crate) Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Arc::new(value)))
    }
}
