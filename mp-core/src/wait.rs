//! Waiting for the first of several things.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::sys::poll::{self, Deadline};

/// Waits until at least one of `handles` is ready, for `timeout` at most, and returns the indices
/// of all that are.
///
/// A [`Process`](crate::Process) is ready when it has ended. A [`Receiver`](crate::Receiver) or a
/// [`Connection`](crate::Connection) is ready when a message has arrived or the peer is closed. Any
/// other descriptor is ready when it is readable or in error. `None` waits indefinitely, and zero
/// does not wait. If the timeout passes, the result is empty.
///
/// # Errors
///
/// Fails if `handles` is longer than the limit of open descriptors, or if memory runs out.
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
