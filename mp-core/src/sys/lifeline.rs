//! A child dies with its parent, also when either is beyond running any code.
//!
//! | | holds |
//! |---|---|
//! | parent | for each child a pipe, of which it keeps the only write end there is until the child has ended |
//! | child | the read end, which asks the kernel to send SIGKILL to the child when the pipe changes state |
//!
//! 1. Nobody ever writes into the pipe, so the only change it can undergo is that its write end
//!    closes.
//! 2. The kernel closes the parent's write ends when the parent dies, however it dies.
//! 3. The signal goes out from that close itself: no thread of the child has to run, none has to be
//!    spared for it.
//! 4. `F_SETOWN` and `O_ASYNC` belong to the open file description, so each child has a pipe to
//!    itself. (One pipe for all of them, of which each child opens a description of its own through
//!    `/proc/self/fd`, works as well; looking into `/proc` makes the kernel keep entries for the
//!    child that cost more to throw away again than a pipe.)
//! 5. A parent that died before the child had armed the pipe is seen by one poll afterwards.
//!
//! `PR_SET_PDEATHSIG` is not used because it follows the thread that started the child instead of
//! the process. The mechanism is documented in fcntl(2), "Managing signals".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{OFlags, fcntl_setfl};

use super::poll::{self, Deadline};

/// Which signal an `O_ASYNC` description sends: Linux's asm-generic/fcntl.h, which x86_64 and
/// aarch64 use. libc does not have it.
const F_SETSIG: libc::c_int = 10;

/// The parent's end. The kernel closes it when this process ends; that is its whole purpose.
#[derive(Debug)]
pub(crate) struct Lifeline(#[expect(dead_code, reason = "it is held, and nothing else")] OwnedFd);

/// Makes the lifeline of a new child, and the end that is for the child.
pub(crate) fn new() -> io::Result<(Lifeline, OwnedFd)> {
    let (read, write) = super::fd::pipe()?;
    Ok((Lifeline(write), read))
}

/// Ties this process's life to whoever holds the write end of `pipe`, for as long as `pipe` is
/// open. Returns false if nobody does any more.
///
/// # Errors
///
/// Fails if a call is refused; the process is not tied then.
pub(crate) fn tie(pipe: BorrowedFd<'_>) -> io::Result<bool> {
    set(pipe, F_SETSIG, libc::SIGKILL)?;
    set(pipe, libc::F_SETOWN, rustix::process::getpid().as_raw_nonzero().get())?;
    fcntl_setfl(pipe, OFlags::NONBLOCK | OFlags::from_bits_retain(libc::O_ASYNC as u32))?;
    Ok(!poll::hung_up(pipe, Deadline::PASSED)?)
}

/// The child's end, kept open until the process ends.
static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps the pipe of this process's parent, also for those who ask whether it lives.
pub(crate) fn keep(pipe: OwnedFd) {
    // A second lifeline in one process would be a second parent; there is none.
    let _ = KEPT.set(pipe);
}

/// What is at its end once the parent is gone. `None` in a process that this library did not start.
pub(crate) fn of_parent() -> Option<BorrowedFd<'static>> {
    KEPT.get().map(AsFd::as_fd)
}

/// What rustix lacks of fcntl(2).
fn set(fd: BorrowedFd<'_>, operation: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: both operations that `tie` passes take one integer and touch no memory of ours.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), operation, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use mp_core::process_fn;

    /// Ties this process to a second parent, and says whether that one lives.
    #[process_fn]
    fn hold_another(living: bool) -> bool {
        let (lifeline, pipe) = super::new().unwrap();
        let lifeline = living.then_some(lifeline);
        let lives = super::tie(pipe.as_fd()).unwrap();
        // In this order: the signal would come.
        drop(pipe);
        drop(lifeline);
        lives
    }

    #[test]
    fn a_parent_that_died_before_its_child_was_tied_to_it_is_noticed() {
        assert!(!hold_another::spawn(false).unwrap().join().unwrap());
        assert!(hold_another::spawn(true).unwrap().join().unwrap());
    }
}
