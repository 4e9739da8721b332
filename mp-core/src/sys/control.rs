//! The control socket that a child inherits.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::poll::{self, Deadline};
use super::{credentials, fd, socket};

/// The descriptor number of a child's control socket: the first after the standard streams.
pub(crate) const NUMBER: RawFd = 3;

/// How long to wait for the kernel to close the descriptors of a parent that has ended.
const PARENTS_END: Duration = Duration::from_secs(1);

/// Takes ownership of the inherited descriptor `number`, if it is a control socket that the parent
/// made.
///
/// If the parent has ended, this process has another parent by now, and the check of the parent's
/// pid fails. Then the socket is accepted if it was made under this process's user and its other
/// end is closed. The start message in it says whether this process may outlive its parent.
///
/// # Errors
///
/// The text says why the descriptor is not one. It is unchanged then.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if number < NUMBER {
        return refused("its number is that of a standard stream");
    }
    // SAFETY: the number is not -1. If the descriptor is not open, each query below fails and
    // changes nothing. This runs before `main` or at its beginning, where no code closes inherited
    // descriptors.
    let control = unsafe { BorrowedFd::borrow_raw(number) };
    if !socket::is_ours(control) {
        return refused("it is not a packet socket");
    }
    if let Err(error) = credentials::made_by_parent(control) {
        credentials::made_by_user(control)?;
        // A parent that is just ending may still have the other end open, and so may a program that
        // it was starting.
        if !poll::hung_up(control, Deadline::after(PARENTS_END))? {
            return Err(error);
        }
    }
    fd::close_on_exec(control)?;
    // SAFETY: it is open, and nothing else in this process owns it: it was inherited, and `boot`
    // calls this once, when it removes the variable that names the number from the environment.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
