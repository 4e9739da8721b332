//! For code that builds its own primitives in shared memory. Programs do not need this module.
//!
//! - [`Futex`] is a word that threads of all processes can sleep on: what the locks of this crate
//!   are built on, and mp-queue's ring.
//! - [`Deadline`] is when a wait has to end, for the waits that consist of several.

pub use crate::deadline::Deadline;
pub use crate::primitive::{Futex, Slept};
