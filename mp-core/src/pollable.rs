//! A descriptor that threads and tasks can wait for.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(feature = "async")]
use std::sync::Arc;

#[cfg(feature = "async")]
use crate::reactor::{Interest, Readiness, Source};

/// A descriptor that tasks can wait for with the feature `async`. Without the feature it is just an
/// [`OwnedFd`].
pub struct PollableFd {
    #[cfg(not(feature = "async"))]
    fd: OwnedFd,
    #[cfg(feature = "async")]
    source: Arc<Source>,
}

#[cfg(not(feature = "async"))]
impl PollableFd {
    /// Takes ownership of a descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

#[cfg(feature = "async")]
impl PollableFd {
    /// Takes ownership of a descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self { source: Arc::new(Source::new(fd)) }
    }

    /// Waits until the descriptor may be readable, at its end or in error. The future keeps the
    /// descriptor open.
    ///
    /// Being ready is a hint: try the operation, and wait again if it would block.
    pub fn readable(&self) -> Readiness {
        Readiness::new(&self.source, Interest::Read)
    }

    /// Waits until the descriptor may be writable or in error, as [`readable`](Self::readable)
    /// does.
    pub fn writable(&self) -> Readiness {
        Readiness::new(&self.source, Interest::Write)
    }

    /// Waits until the other end may be closed.
    pub(crate) fn hung_up(&self) -> Readiness {
        Readiness::new(&self.source, Interest::HangUp)
    }
}

impl AsFd for PollableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        #[cfg(not(feature = "async"))]
        return self.fd.as_fd();
        #[cfg(feature = "async")]
        return self.source.as_fd();
    }
}

impl fmt::Debug for PollableFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_fd().fmt(f)
    }
}
