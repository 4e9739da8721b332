//! Bounded queues between any number of processes, in shared memory.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod batch;
mod consumer;
mod deadline {
    pub(crate) use mp_sync::futex::Deadline;
}
mod error;
mod holder;
#[allow(unsafe_code, reason = "it hands the ring's bytes to `ring::access`")]
mod memory;
mod primitive;
mod producer;
mod queue;
pub mod ring;
mod transfer;

pub use consumer::{Consumer, Iter};
pub use error::{GetError, GetManyError, PutError, PutErrorReason, PutManyError};
pub use producer::Producer;
pub use queue::Queue;
