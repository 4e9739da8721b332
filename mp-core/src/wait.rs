//! Waiting for whichever comes first.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::sys::poll::{self, Deadline};

/// Waits until at least one of `handles` is ready, for `timeout` at most, and returns the indices of all that are.
///
/// A [`Process`](crate::Process) is ready when it has ended, a [`Receiver`](crate::Receiver) or a [`Connection`](crate::Connection)
/// when a message or the end can be received (a message longer than 256 KiB when it begins to arrive, see
/// [`Receiver::poll`](crate::Receiver::poll)), any other descriptor when it is readable or in error. `None` waits for ever, zero looks without waiting. At the deadline the answer is empty.
///
/// # Errors
///
/// Fails if `handles` is longer than the limit of open descriptors, or memory runs out.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_core::{pipe, wait};
///
/// let (sender, receiver) = pipe::<u8>()?;
/// let (_idle, other) = pipe::<u8>()?;
/// assert!(wait(&[&receiver, &other], Some(Duration::ZERO))?.is_empty());
/// sender.send(1)?;
/// assert_eq!(wait(&[&other, &receiver], None)?, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait(handles: &[&dyn AsFd], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let mut fds: Vec<_> =
        handles.iter().map(|handle| PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)).collect();
    poll::wait(&mut fds, Deadline::from_timeout(timeout))?;
    Ok(fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect())
}
