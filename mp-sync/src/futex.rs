//! For code that builds its own primitives in shared memory. Programs do not need this module.
//!
//! - [`Futex`] is a word on which threads of all processes can sleep. The locks of this crate and
//!   the ring of mp-queue are built on it.
//! - [`Deadline`] is the end of a wait that consists of several sleeps.
//! - [`LockGuard`] marks the guards that a [`LockError`](crate::LockError) can contain.

pub use crate::deadline::Deadline;
pub use crate::error::LockGuard;
pub use crate::primitive::{Futex, Slept};
