//! Waiting for descriptors until a deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A point in monotonic time, or never.
///
/// It is fixed once per operation, so an interrupted wait does not start over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline: the wait has no limit.
    pub const NEVER: Self = Self(None);

    /// Returns a deadline that has passed, for an operation that must not wait.
    pub fn now() -> Self {
        Self(Some(Instant::now()))
    }

    /// Returns the deadline `timeout` from now. One that is too far away to be represented is never.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Returns the deadline `timeout` from now; `None` is never.
    pub fn from_timeout(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after)
    }

    /// Tells whether there is no deadline.
    pub fn is_never(self) -> bool {
        self.0.is_none()
    }

    /// Tells whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// Returns the time that is left, zero after the deadline; `None` if there is no deadline.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// Waits until one of `fds` reports what was asked of it (or an error or a hang-up), or until `deadline`.
///
/// Returns how many did; 0 is the deadline.
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

/// Waits until `fd` is readable, at its end or in error, and returns false if the deadline passes first.
///
/// # Errors
///
/// Fails if the operating system refuses to wait.
pub fn readable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], deadline).map(|ready| ready > 0)
}

/// Waits until `fd` is writable or in error, and returns false if the deadline passes first.
///
/// # Errors
///
/// Fails if the operating system refuses to wait.
pub fn writable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], deadline).map(|ready| ready > 0)
}

/// Waits until the other end of `fd` is closed; false is the deadline.
pub(crate) fn hung_up(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::empty())], deadline).map(|ready| ready > 0)
}
