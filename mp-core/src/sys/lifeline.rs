//! A child dies with its parent, even if neither can run any code.
//!
//! | | holds |
//! |---|---|
//! | parent | the only write end of a pipe for each child, and its read end as well, until the child has ended |
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
//! 6. A child may close all its descriptors, or call exec. The parent's read end is of the same
//!    description, so the signal stays armed. When the parent ends, the kernel closes descriptors
//!    in the order of their numbers, and releases last what it closed first (task_work is a stack).
//!    So the read end has the lower number, and is there when the write end is released. A child
//!    that closes its own read end in the moment between those two steps is not signalled (one of
//!    600 runs of a test that killed the parent while its child called exec).
//! 7. The kernel does not let this signal kill the first process of a PID namespace. There a thread
//!    waits for the end of the pipe, and ends the process.
//! 8. The kernel asks whether the one who armed the pipe may signal the process. A process that
//!    changes its user without being root of the machine has to arm it again.
//!
//! `PR_SET_PDEATHSIG` would not do: it sends the signal when the thread that started the child
//! ends, not when the process ends. fcntl(2) documents this mechanism under "Managing signals".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Pid;

use super::fd::is_open;
use super::fork::{Replaceable, forks};
use super::poll::{self, Deadline};
use super::runtime::exit_at_once;
use super::signals::spawn_without_signals;

/// Sets the signal that an `O_ASYNC` description sends. The number is from Linux's
/// asm-generic/fcntl.h, which x86_64 and aarch64 use; libc does not define it.
const F_SETSIG: libc::c_int = 10;

/// The parent's ends. They exist so that the kernel closes them when this process ends.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "they are held, and nothing else"))]
pub(crate) struct Lifeline {
    // Dropped in this order.
    write: OwnedFd,
    read: Arc<OwnedFd>,
}

/// Makes the lifeline of a new child, and the child's end of it.
pub(crate) fn new() -> io::Result<(Lifeline, Arc<OwnedFd>)> {
    let (read, write) = super::fd::pipe()?;
    let read = Arc::new(read);
    Ok((Lifeline { write, read: Arc::clone(&read) }, read))
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

/// The child's end of the pipe to its parent, kept open until the process ends.
struct Kept {
    pipe: OwnedFd,
    /// The process that is tied, by the number of forks before it; `None` if it outlives its
    /// parent.
    tied: Option<u32>,
}

static KEPT: Replaceable<Kept> = Replaceable::new();

/// Keeps the pipe to this process's parent open, which [`of_parent`] then returns. If the process
/// is tied to it, this does what remains to do for that.
///
/// # Errors
///
/// Fails if this process is the first of a PID namespace, and the thread that it needs cannot be
/// started.
pub(crate) fn keep(pipe: OwnedFd, is_tied: bool) -> io::Result<()> {
    let kept = KEPT.set(Kept { pipe, tied: is_tied.then(forks) });
    if is_tied && rustix::process::getpid() == Pid::INIT { watch(kept.pipe.as_fd()) } else { Ok(()) }
}

/// Starts a thread that ends this process when the pipe is at its end. The function may close the
/// pipe, so the thread has a table of descriptors of its own, with nothing else in it.
fn watch(pipe: BorrowedFd<'static>) -> io::Result<()> {
    let (ready, is_ready) = mpsc::channel();
    spawn_without_signals("mp-core lifeline", move || {
        // SAFETY: it concerns this thread alone, which uses no descriptors but the pipe.
        if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
            close_all_but(pipe);
        }
        let _ = ready.send(());
        while !poll::hung_up(pipe, Deadline::NEVER).unwrap_or(false) {
            // It woke for no reason, or there was no memory to wait with.
            thread::sleep(Duration::from_millis(10));
        }
        // Otherwise the table is shared, because the system call was refused, and it was closed.
        if is_open(pipe) {
            exit_at_once(128 + libc::SIGKILL);
        }
    })?;
    let _ = is_ready.recv();
    Ok(())
}

/// Closes all descriptors of this thread's own table but one.
fn close_all_but(kept: BorrowedFd<'_>) {
    let Ok(entries) = std::fs::read_dir("/proc/thread-self/fd") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number != kept.as_raw_fd()).collect();
    for number in numbers {
        // SAFETY: the caller's thread alone has the table, and uses no other descriptor of it.
        unsafe { libc::close(number) };
    }
}

/// Ties this process again, under the user that it is now. If its parent has ended, it ends too.
///
/// # Errors
///
/// Fails in a copy that `fork` made, because its original would not be tied then, and if the
/// descriptor was closed.
pub(crate) fn tie_again() -> io::Result<()> {
    let Some(Kept { pipe, tied: Some(tied) }) = KEPT.get() else { return Ok(()) };
    if *tied != forks() {
        return Err(io::Error::other("the process that this one was forked from is tied to the parent"));
    }
    if !tie(pipe.as_fd())? {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    Ok(())
}

/// Returns the pipe that is at its end once the parent has ended. `None` in a process that this
/// library did not start.
pub(crate) fn of_parent() -> Option<BorrowedFd<'static>> {
    KEPT.get().map(|kept| kept.pipe.as_fd())
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
        let super::Lifeline { write, read } = lifeline;
        let write = living.then_some(write);
        let lives = super::tie(pipe.as_fd()).unwrap();
        // In this order, because otherwise the kernel would send the signal.
        drop((pipe, read));
        drop(write);
        lives
    }

    #[test]
    fn a_parent_that_died_before_its_child_was_tied_to_it_is_noticed() {
        assert!(!hold_another::spawn(false).unwrap().join().unwrap());
        assert!(hold_another::spawn(true).unwrap().join().unwrap());
    }
}
