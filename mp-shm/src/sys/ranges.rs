//! Locks of byte ranges, which record which open file description owns which bytes of a file.
//!
//! See [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "Open file description
//! locks". The kernel lets one description lock a range at a time, and unlocks it when the last
//! descriptor of that description is closed, however its process ends.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Locks the bytes for this description if no other has locked any of them, and tells whether it
/// succeeded. An empty range always succeeds.
pub(crate) fn try_take(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<bool> {
    match change(file, libc::F_WRLCK as i16, bytes) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Locks the bytes for this description, shared with every other description that shares them.
/// Fails if another description has locked them exclusively.
pub(crate) fn share(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    change(file, libc::F_RDLCK as i16, bytes)
}

/// Unlocks bytes of this description.
pub(crate) fn give_back(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    change(file, libc::F_UNLCK as i16, bytes)
}

/// Tells whether another description has locked any of the bytes, exclusively or shared.
pub(crate) fn are_held_by_others(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<bool> {
    // Asks whether they could be locked. If not, the kernel returns a conflicting lock.
    let answer = call(file, libc::F_OFD_GETLK, libc::F_WRLCK as i16, bytes)?;
    Ok(answer.l_type != libc::F_UNLCK as i16)
}

fn change(file: BorrowedFd<'_>, kind: i16, bytes: Range<u64>) -> io::Result<()> {
    // A length of zero would mean everything after the start.
    if bytes.is_empty() { Ok(()) } else { call(file, libc::F_OFD_SETLK, kind, bytes).map(drop) }
}

fn call(file: BorrowedFd<'_>, command: i32, kind: i16, bytes: Range<u64>) -> io::Result<libc::flock> {
    let wide = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let start = libc::off_t::try_from(bytes.start).map_err(wide)?;
    let length = libc::off_t::try_from(bytes.end - bytes.start).map_err(wide)?;
    // `l_pid` has to be zero for locks of this kind.
    let mut lock =
        libc::flock { l_type: kind, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 };
    loop {
        // SAFETY: the commands read and write one `flock`, which is valid and exclusively borrowed
        // during the call, and the descriptor is open.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        if result == 0 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
