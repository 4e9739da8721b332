//! Code of the user's, to be run when no lock is held.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

pub(crate) enum Later {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

impl Later {
    /// Runs it. A panic is its own affair.
    pub(crate) fn run(self) {
        let _ = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Wake(waker) => waker.wake(),
            Self::Call(callback) => callback(),
        }));
    }
}
