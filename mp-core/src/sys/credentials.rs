//! Who is at the other end of a socket, and whether this process can trust its environment.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Tells whether the kernel runs this process with privileges that its caller does not have
/// (set-user-ID, file capabilities), so that nothing in its environment may be trusted.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: getauxval(3) reads a table that the kernel made at exec and demands nothing of its
    // caller.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Checks that the socket `fd` was made by this process's parent, under this process's user.
///
/// The kernel records the credentials of whoever called socketpair(2), see unix(7), `SO_PEERCRED`.
///
/// # Errors
///
/// Says what is wrong.
pub(crate) fn made_by_parent(fd: BorrowedFd<'_>) -> io::Result<()> {
    made_by_user(fd)?;
    let peer = peer(fd)?;
    // SAFETY: getppid(2) demands nothing and cannot fail. Both it and the peer's number are 0 for a
    // parent outside this PID namespace.
    let parent = unsafe { libc::getppid() };
    if peer.pid == parent { Ok(()) } else { Err(refused("its socket does not belong to the parent process")) }
}

/// Checks that the socket `fd` was made under this process's user.
///
/// # Errors
///
/// Says what is wrong.
pub(crate) fn made_by_user(fd: BorrowedFd<'_>) -> io::Result<()> {
    let peer = peer(fd)?;
    // SAFETY: geteuid(2) demands nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    if peer.uid == user { Ok(()) } else { Err(refused("its socket belongs to another user")) }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Not rustix's `socket_peercred`, because its type cannot hold the process number 0.
fn peer(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `length` live through the call, and `length` says how many bytes may be
    // written to `peer`, a struct of plain integers.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut length)
    };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}
