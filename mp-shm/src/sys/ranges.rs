//! Who has which bytes of a file: locks of byte ranges that belong to an open file description.
//!
//! See [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "Open file description
//! locks". The kernel gives a range to one description at a time and takes it back when the last
//! descriptor of that description is closed, however its process ends.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Takes the bytes for this description if no other has any of them, and tells whether it has them
/// now. No bytes at all are always to be had.
pub(crate) fn try_take(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<bool> {
    match change(file, libc::F_WRLCK as i16, bytes) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Gives the bytes back that this description has.
pub(crate) fn give_back(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    change(file, libc::F_UNLCK as i16, bytes)
}

fn change(file: BorrowedFd<'_>, kind: i16, bytes: Range<u64>) -> io::Result<()> {
    // A length of zero would mean all that follows.
    if bytes.is_empty() {
        return Ok(());
    }
    let wide = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let start = libc::off_t::try_from(bytes.start).map_err(wide)?;
    let length = libc::off_t::try_from(bytes.end - bytes.start).map_err(wide)?;
    // `l_pid` has to be zero for locks of this kind.
    let lock = libc::flock { l_type: kind, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 };
    loop {
        // SAFETY: the command reads one `flock`, which is alive during the call, and the descriptor
        // is open.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
