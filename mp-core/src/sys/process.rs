//! Waiting for a child and sending it signals, by pidfd: the number of a process may be given to
//! another one once it was reaped, its pidfd may not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

use super::fd::above_standard_streams;
use super::poll::{Deadline, readable};
use crate::exit_status::ExitStatus;

/// Opens the pidfd of a child that was not reaped yet.
pub(crate) fn open(child: Pid) -> io::Result<OwnedFd> {
    above_standard_streams(pidfd_open(child, PidfdFlags::empty())?)
}

/// Reaps the child if it has ended and says how it did; `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    reap_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the end of the child and reaps it. `None` if someone else has reaped it meanwhile.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let status = reap_with(pidfd, WaitIdOptions::EXITED)?;
    Ok(status.filter(|status| *status != ExitStatus::Unknown))
}

fn reap_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitid(WaitId::PidFd(pidfd), options) {
            Ok(status) => return Ok(status.map(|status| exit_status(&status))),
            Err(Errno::INTR) => {}
            // Someone else reaped it: SIGCHLD is ignored, or another part of the program waits for
            // every child.
            Err(Errno::CHILD) => return Ok(ended(pidfd)?.then_some(ExitStatus::Unknown)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    readable(pidfd, Deadline::PASSED)
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    if let Some(code) = status.exit_status() {
        ExitStatus::Code(code)
    } else if let Some(signal) = status.terminating_signal() {
        ExitStatus::Signal { signal, core_dumped: status.dumped() }
    } else {
        ExitStatus::Unknown
    }
}

/// Sends a signal; does nothing to a process that has ended.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

/// Ends a child that came into being but cannot be used, and reaps it.
pub(crate) fn discard(child: Pid) {
    // Until it is reaped its number is its own, so no stranger can be hit.
    let _ = rustix::process::kill_process(child, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED));
}
