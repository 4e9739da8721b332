//! A child dies with its parent, even if neither can run any code.
//!
//! | | holds |
//! |---|---|
//! | parent | the only write end of a pipe for each child, until the child has ended |
//! | child | the read end; the kernel sends SIGKILL to the child when the pipe changes state |
//!
//! 1. No process writes to the pipe, so its only possible change of state is that its write end
//!    closes.
//! 2. The kernel closes the parent's write ends when the parent dies, for whatever reason.
//! 3. The kernel sends the signal as part of closing the write end. No thread of the child has to
//!    run for that.
//! 4. `F_SETOWN` and `O_ASYNC` belong to the open file description, so each child has a pipe of its
//!    own. (All children could share one pipe if each opened a new description through
//!    `/proc/self/fd`. But then the kernel creates entries in `/proc` for the child, and removing
//!    them takes longer than making a pipe.)
//! 5. After the child has armed the pipe, it polls once, in case the parent died before that.
//!
//! `PR_SET_PDEATHSIG` would not do: it sends the signal when the thread that started the child
//! ends, not when the process ends. fcntl(2) documents this mechanism under "Managing signals".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{OFlags, fcntl_setfl};

use super::poll::{self, Deadline};

/// Sets the signal that an `O_ASYNC` description sends. The number is from Linux's
/// asm-generic/fcntl.h, which x86_64 and aarch64 use; libc does not define it.
const F_SETSIG: libc::c_int = 10;

/// The parent's end. It exists so that the kernel closes it when this process ends.
#[derive(Debug)]
pub(crate) struct Lifeline(#[expect(dead_code, reason = "it is held, and nothing else")] OwnedFd);

/// Makes the lifeline of a new child, and the child's end of it.
pub(crate) fn new() -> io::Result<(Lifeline, OwnedFd)> {
    let (read, write) = super::fd::pipe()?;
    Ok((Lifeline(write), read))
}

/// Lets this process die when the last write end of `pipe` closes, for as long as `pipe` is open.
/// Returns false if that has already happened.
///
/// # Errors
///
/// Fails if a system call fails. The process is not tied then.
pub(crate) fn tie(pipe: BorrowedFd<'_>) -> io::Result<bool> {
    set(pipe, F_SETSIG, libc::SIGKILL)?;
    set(pipe, libc::F_SETOWN, rustix::process::getpid().as_raw_nonzero().get())?;
    fcntl_setfl(pipe, OFlags::NONBLOCK | OFlags::from_bits_retain(libc::O_ASYNC as u32))?;
    Ok(!poll::hung_up(pipe, Deadline::PASSED)?)
}

/// The child's end, kept open until the process ends.
static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps the pipe to this process's parent open. [`of_parent`] returns it.
pub(crate) fn keep(pipe: OwnedFd) {
    // A process has one parent, so this is called once.
    let _ = KEPT.set(pipe);
}

/// Returns the pipe that is at its end once the parent has ended. `None` in a process that this
/// library did not start.
pub(crate) fn of_parent() -> Option<BorrowedFd<'static>> {
    KEPT.get().map(AsFd::as_fd)
}

/// Calls fcntl(2) for the operations that rustix lacks.
fn set(fd: BorrowedFd<'_>, operation: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: both operations that `tie` passes take an integer and access no memory of this
    // process.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), operation, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use mp_core::process_fn;

    /// Ties this process to a second parent, and tells whether that one lives.
    #[process_fn]
    fn hold_another(living: bool) -> bool {
        let (lifeline, pipe) = super::new().unwrap();
        let lifeline = living.then_some(lifeline);
        let lives = super::tie(pipe.as_fd()).unwrap();
        // In this order, because otherwise the kernel would send the signal.
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
