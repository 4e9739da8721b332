//! What the state machines of `raw` stand on: a futex and atomics. Under `--cfg loom` they are
//! loom's, so that it can try every order.
//!
//! Every sleep on a futex lasts [`RECHECK`] at most. A process can be killed between the change of
//! a word and the wake-up that it owes for it, or between being woken and passing the wake-up on;
//! nobody else can know then that somebody sleeps over a word that has changed. So a sleeper looks
//! for itself from time to time. Nothing that happens while all are alive depends on it.

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

/// A constructor that is `const`, but for loom, whose atomics are not made at compile time.
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
    /// Look again: somebody woke this thread, the word has changed, or it is time to see for
    /// oneself.
    Awake,
    /// The deadline has passed.
    Late,
}
