//! A child dies with its parent, also when either is beyond running any code.
//!
//! | | holds |
//! |---|---|
//! | parent | one pipe for its whole life: the only write end there is, and the read end that it hands to children |
//! | child | a description of its own of the read end, which asks the kernel to send SIGKILL to the child when the pipe changes state |
//!
//! 1. Nobody ever writes into the pipe, so the only change it can undergo is that its last write end closes.
//! 2. The kernel closes the parent's write end when the parent dies, however it dies.
//! 3. The signal goes out from that close itself: no thread of the child has to run, none has to be spared for it.
//! 4. `F_SETOWN` and `O_ASYNC` belong to the open file description, which all children would share if they kept the
//!    one they were handed; each therefore opens its own through `/proc/self/fd`.
//! 5. A parent that died before the child had armed the pipe is seen by one poll afterwards.
//!
//! `PR_SET_PDEATHSIG` is not used because it follows the thread that started the child instead of the process.
//! The mechanism is documented in fcntl(2), "Managing signals".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, fchmod, fcntl_setfl, open};
use rustix::io::retry_on_intr;

use super::fd::above_standard_streams;
use super::poll::{self, Deadline};

/// Which signal an `O_ASYNC` description sends: Linux's asm-generic/fcntl.h, which x86_64 and aarch64 use. libc does not have it.
const F_SETSIG: libc::c_int = 10;

struct Pipe {
    read: OwnedFd,
    /// Closed by the kernel when this process ends; that is its whole purpose.
    _write: OwnedFd,
}

/// The end that the children of this process hold on to.
pub(crate) fn for_children() -> io::Result<BorrowedFd<'static>> {
    static PIPE: OnceLock<Pipe> = OnceLock::new();
    if let Some(pipe) = PIPE.get() {
        return Ok(pipe.read.as_fd());
    }
    let (read, write) = super::fd::pipe()?;
    // A child opens it anew, which asks for permission. The pipe is its maker's, and this process may change its user later.
    fchmod(&read, Mode::RUSR | Mode::RGRP | Mode::ROTH)?;
    let pipe = Pipe { read, _write: write };
    // Two threads may get here at once; the loser's pipe has no children yet and closes.
    Ok(PIPE.get_or_init(|| pipe).read.as_fd())
}

/// The end of the parent's pipe that this process was handed, kept open until it ends.
static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// The description that kills this process with its parent, kept open until it ends.
static ARMED: OnceLock<OwnedFd> = OnceLock::new();

/// Ties this process's life to whoever holds the write end of `pipe`. Returns false if nobody does any more.
///
/// # Errors
///
/// Fails if `/proc` is not mounted or a call is refused; the process is not tied then.
pub(crate) fn tie(pipe: &OwnedFd) -> io::Result<bool> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = above_standard_streams(retry_on_intr(|| open(path.as_str(), flags, Mode::empty()))?)?;
    set(own.as_fd(), F_SETSIG, libc::SIGKILL)?;
    set(own.as_fd(), libc::F_SETOWN, rustix::process::getpid().as_raw_nonzero().get())?;
    fcntl_setfl(&own, OFlags::NONBLOCK | OFlags::from_bits_retain(libc::O_ASYNC as u32))?;
    let parent_gone = poll::hung_up(own.as_fd(), Deadline::now())?;
    // A second lifeline in one process would be a second parent; there is none.
    let _ = ARMED.set(own);
    Ok(!parent_gone)
}

/// Keeps the pipe of this process's parent, for those who ask whether it lives.
pub(crate) fn keep(pipe: OwnedFd) {
    let _ = KEPT.set(pipe);
}

/// What is readable, at its end, once the parent is gone. `None` in a process that this library did not start.
pub(crate) fn of_parent() -> Option<BorrowedFd<'static>> {
    KEPT.get().map(AsFd::as_fd)
}

/// What rustix lacks of fcntl(2).
fn set(fd: BorrowedFd<'_>, operation: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: both operations that `hold` passes take one integer and touch no memory of ours.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), operation, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use mp_core::process_fn;

    /// Ties this process to a second parent, and says whether that one lives.
    #[process_fn]
    fn hold_another(living: bool) -> bool {
        let (read, write) = crate::sys::fd::pipe().unwrap();
        let write = living.then_some(write);
        // The process has a lifeline already, so this one ends here and its signal never comes.
        let lives = super::tie(&read).unwrap();
        drop(write);
        lives
    }

    #[test]
    fn a_parent_that_died_before_its_child_was_tied_to_it_is_noticed() {
        assert!(!hold_another::spawn(false).unwrap().join().unwrap());
        assert!(hold_another::spawn(true).unwrap().join().unwrap());
    }
}
