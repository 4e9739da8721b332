//! Duplicating descriptors, and moving them above 0, 1 and 2.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// The lowest number above stdin, stdout and stderr.
const FIRST_ORDINARY: i32 = 3;

/// Duplicates `fd`, close-on-exec, to a number above the standard streams.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, FIRST_ORDINARY)?)
}

/// Moves `fd` above the standard streams if it took the number of a closed one, so that no child
/// inherits it as a standard stream.
///
/// # Errors
///
/// Fails if the process can open no further descriptor.
pub fn above_standard_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_ORDINARY { Ok(fd) } else { duplicate(fd.as_fd()) }
}

/// The path at which this process can open the file of `fd` again.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

/// Sets close-on-exec.
pub(crate) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfd(fd, FdFlags::CLOEXEC)?)
}

/// Opens a directory, for nothing but to enter it.
pub(crate) fn open_directory(path: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    above_standard_streams(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Tells whether `fd` is open.
pub(crate) fn is_open(fd: BorrowedFd<'_>) -> bool {
    fcntl_getfl(fd).is_ok()
}

/// Duplicates the standard stream `number` of this process; `None` if it is closed.
pub(crate) fn standard_stream(number: RawFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the borrow ends with the function. A stream that is closed cannot be duplicated.
    match duplicate(unsafe { BorrowedFd::borrow_raw(number) }) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(None),
        stream => stream.map(Some),
    }
}

/// Makes a pipe, close-on-exec: the read end and the write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((above_standard_streams(read)?, above_standard_streams(write)?))
}
