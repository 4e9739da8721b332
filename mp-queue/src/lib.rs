//! Bounded queues between any number of processes, in shared memory.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod batch;
mod deadline {
    pub(crate) use mp_sync::futex::Deadline;
}
mod error;
mod get;
mod holder;
mod joinable;
#[allow(unsafe_code, reason = "it hands the ring's bytes to `ring::access`")]
mod memory;
mod primitive;
mod put;
mod queue;
pub mod ring;
mod role;
mod tasks;
mod transfer;

pub use error::{GetError, GetManyError, JoinError, PutError, PutErrorReason, PutManyError, TooManyTasksDone};
pub use get::Iter;
pub use joinable::JoinableQueue;
pub use queue::Queue;
pub use role::{Both, Consumer, Get, Gets, Producer, Put, Puts, Role};
