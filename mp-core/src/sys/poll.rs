//! Waiting for descriptors until a deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long an operation may wait: indefinitely, until a point in monotonic time, or not at all.
///
/// An operation computes its deadline once, so a signal that interrupts the wait does not extend
/// it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Limit);

#[derive(Clone, Copy, Debug)]
enum Limit {
    Never,
    At(Instant),
    Passed,
}

impl Deadline {
    /// Wait indefinitely.
    pub const NEVER: Self = Self(Limit::Never);

    /// Do not wait.
    pub const PASSED: Self = Self(Limit::Passed);

    /// Returns the deadline `timeout` from now, or [`NEVER`](Self::NEVER) if that is too far in the
    /// future to be represented.
    pub fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Self::PASSED;
        }
        Self(Instant::now().checked_add(timeout).map_or(Limit::Never, Limit::At))
    }

    /// Returns the deadline `timeout` from now; `None` is [`NEVER`](Self::NEVER).
    pub fn from_timeout(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after)
    }

    /// Tells whether there is no deadline.
    pub fn is_never(self) -> bool {
        matches!(self.0, Limit::Never)
    }

    /// Tells whether this is [`PASSED`](Self::PASSED), or was made from a timeout of zero.
    pub fn is_now(self) -> bool {
        matches!(self.0, Limit::Passed)
    }

    /// Tells whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Returns the time that is left, zero after the deadline. `None` means that there is no
    /// deadline.
    pub fn left(self) -> Option<Duration> {
        match self.0 {
            Limit::Never => None,
            Limit::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Limit::Passed => Some(Duration::ZERO),
        }
    }
}

/// Waits until one of `fds` has an event that it asks for, an error or a hang-up, or until
/// `deadline`.
///
/// Returns how many have one; 0 means that the deadline passed.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<usize> {
    loop {
        let left = deadline.left();
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until `fd` is readable, at its end or in error, and returns false if the deadline passes
/// first.
///
/// # Errors
///
/// Fails if the operating system cannot wait.
pub fn readable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], deadline).map(|ready| ready > 0)
}

/// Waits until `fd` is writable or in error, and returns false if the deadline passes first.
///
/// # Errors
///
/// Fails if the operating system cannot wait.
pub fn writable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], deadline).map(|ready| ready > 0)
}

/// Waits until the other end of `fd` is closed, and returns false if the deadline passes first.
pub(crate) fn hung_up(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::empty())], deadline).map(|ready| ready > 0)
}
