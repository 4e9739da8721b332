//! The socket that a child is born with.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::poll::{self, Deadline};
use super::{credentials, fd, socket};

/// The number under which a child finds its control socket: the first after the standard streams.
pub(crate) const NUMBER: RawFd = 3;

/// How long after its child has another parent the descriptors of a process may stay open.
const PARENTS_END: Duration = Duration::from_secs(1);

/// Takes over the inherited descriptor `number`, if it is a control socket that the parent made.
///
/// A parent that is gone cannot be recognised any more: this process has another one by now. Its
/// socket is recognised by that nobody holds its other end, and that it was made under this
/// process's user. What it left there says whether to go on without it.
///
/// # Errors
///
/// Says what else it is; nothing was done to it then.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if number < NUMBER {
        return refused("its number is that of a standard stream");
    }
    // SAFETY: the number is not -1. If nothing is open under it, each question below fails and
    // changes nothing. This runs before or at the beginning of `main`, where nobody closes what was
    // inherited.
    let control = unsafe { BorrowedFd::borrow_raw(number) };
    if !socket::is_ours(control) {
        return refused("it is not a packet socket");
    }
    if let Err(error) = credentials::made_by_parent(control) {
        credentials::made_by_user(control)?;
        // A parent that is just ending may still hold it, and so may a program that it was about to
        // start.
        if !poll::hung_up(control, Deadline::after(PARENTS_END))? {
            return Err(error);
        }
    }
    fd::close_on_exec(control)?;
    // SAFETY: it is open, and nothing else in this process owns it: it was inherited, and `boot`
    // calls this once, when it takes the only mention of the number out of the environment.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
