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
mod joinable;
#[allow(unsafe_code, reason = "it hands the ring's bytes to `ring::access`")]
mod memory;
mod primitive;
mod producer;
mod queue;
pub mod ring;
mod tasks;
mod transfer;

pub use consumer::{Consumer, Iter};
pub use error::{GetError, GetManyError, JoinError, PutError, PutErrorReason, PutManyError, TooManyTasksDone};
pub use joinable::JoinableQueue;
pub use producer::Producer;
pub use queue::Queue;
