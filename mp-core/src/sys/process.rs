//! Waiting for a child and sending it signals, by pidfd. The kernel may reuse the pid of a reaped
//! process; a pidfd never refers to another process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpgid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::fd::above_standard_streams;
use super::poll::{Deadline, readable};
use crate::exit_status::ExitStatus;

/// Opens the pidfd of a child that is not reaped yet.
pub(crate) fn open(child: Pid) -> io::Result<OwnedFd> {
    above_standard_streams(pidfd_open(child, PidfdFlags::empty())?)
}

/// Reaps the child if it has ended, and returns how it ended; `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    reap_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the end of the child and reaps it. `None` if other code reaped it first.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let status = reap_with(pidfd, WaitIdOptions::EXITED)?;
    Ok(status.filter(|status| *status != ExitStatus::Unknown))
}

fn reap_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitid(WaitId::PidFd(pidfd), options) {
            Ok(status) => return Ok(status.map(|status| exit_status(&status))),
            Err(Errno::INTR) => {}
            // It was reaped elsewhere: SIGCHLD is ignored, or other code in the program waits for
            // all children.
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

/// Sends a signal, or does nothing if the process has ended.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

/// Sends a signal to the process group that a child leads, and to the child if it has left that
/// group. Does nothing if other code reaped the child: its number may be another's then.
///
/// The caller sees to it that this process does not reap the child meanwhile.
pub(crate) fn signal_group(child: Pid, pidfd: BorrowedFd<'_>, to_send: Signal) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options)), Err(Errno::CHILD)) {
        return Ok(());
    }
    let group = match kill_process_group(child, to_send) {
        Err(Errno::SRCH) => Ok(()),
        other => Ok(other?),
    };
    if getpgid(Some(child)) == Ok(child) { group } else { signal(pidfd, to_send) }
}

/// Kills a child that cannot be used, and reaps it.
pub(crate) fn discard(child: Pid) {
    // The child is not reaped yet, so its pid cannot belong to another process.
    let _ = rustix::process::kill_process(child, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED));
}
