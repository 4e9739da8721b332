//! The futex and the atomics that the state machines of `raw` use. Under `--cfg loom` they are
//! loom's, so that it can try every order.
//!
//! Every sleep on a futex lasts at most [`RECHECK`]. A process can be killed after it changed a
//! word and before it woke the sleepers, or after it was woken and before it passed the wake-up on.
//! No other process can know then that a thread sleeps although its word has changed. So a sleeper
//! checks the word itself from time to time. While all processes live, nothing depends on that.

#[cfg(not(loom))]
mod real;
#[cfg(not(loom))]
pub use real::Futex;
#[cfg(not(loom))]
pub(crate) use real::{AtomicU32, AtomicU64, Link, Ordering, Thread, spin_loop};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub(crate) use model::{AtomicU32, AtomicU64, Futex, Link, Ordering, Thread, fence, spin_loop};

/// A constructor that is `const`, except under loom, whose atomics cannot be made at compile time.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])* $visibility const fn $($rest)*
        #[cfg(loom)]
        $(#[$attribute])* $visibility fn $($rest)*
    };
}

/// How a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slept {
    /// Check again: another thread woke this one, the word has changed, or 100 ms are over.
    Awake,
    /// The deadline has passed.
    Late,
}
