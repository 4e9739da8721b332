//! Which process made a socket, and whether this process can trust its environment.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Tells whether the kernel runs this process with privileges that its caller does not have
/// (set-user-ID, file capabilities). Then it must not trust its environment.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: getauxval(3) reads a table that the kernel made at exec, and has no precondition.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Tells whether the kernel runs the children of this process with privileges that their caller
/// does not have: see ld.so(8), "Secure-execution mode".
pub(crate) fn makes_privileged_children() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    getuid() != geteuid() || getgid() != getegid()
}

/// Checks that the socket `fd` was made by this process's parent, under this process's user.
///
/// The kernel records the credentials of the process that called socketpair(2): see unix(7),
/// `SO_PEERCRED`.
///
/// # Errors
///
/// The text says which check failed.
pub(crate) fn made_by_parent(fd: BorrowedFd<'_>) -> io::Result<()> {
    made_by_user(fd)?;
    let peer = peer(fd)?;
    // SAFETY: getppid(2) has no precondition and cannot fail. If the parent is outside this PID
    // namespace, both its result and the peer's pid are 0.
    let parent = unsafe { libc::getppid() };
    if peer.pid == parent { Ok(()) } else { Err(refused("its socket does not belong to the parent process")) }
}

/// Checks that the socket `fd` was made under this process's user.
///
/// # Errors
///
/// The text says which check failed.
pub(crate) fn made_by_user(fd: BorrowedFd<'_>) -> io::Result<()> {
    let peer = peer(fd)?;
    // SAFETY: geteuid(2) has no precondition and cannot fail.
    let user = unsafe { libc::geteuid() };
    if peer.uid == user { Ok(()) } else { Err(refused("its socket belongs to another user")) }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// rustix's `socket_peercred` would not do, because its type cannot hold the pid 0.
fn peer(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `length` are valid for the call, and `length` is the size of `peer`, a
    // struct of plain integers.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut length)
    };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}
