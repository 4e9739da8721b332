//! Waiting for a child and sending it signals, by pidfd. The kernel may reuse the pid of a reaped
//! process; a pidfd never refers to another process.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpgid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::fd::above_standard_streams;
use super::poll::{Deadline, hung_up, readable};
use crate::exit_status::ExitStatus;

/// Opens the pidfd of a child that is not reaped yet.
pub(crate) fn open(child: Pid) -> io::Result<OwnedFd> {
    above_standard_streams(pidfd_open(child, PidfdFlags::empty())?)
}

/// Reaps the child if it has ended, and returns how it ended; `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    match reap_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        // It was reaped elsewhere: SIGCHLD is ignored, or other code in the program waits for all
        // children.
        Err(Errno::CHILD) => Ok(ended(pidfd)?.then(|| status_of_other(pidfd, Deadline::after(REAPING)))),
        status => Ok(status?),
    }
}

/// Waits for the end of the child and reaps it. `None` if other code reaped it first.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    match reap_with(pidfd, WaitIdOptions::EXITED) {
        Err(Errno::CHILD) => Ok(None),
        status => Ok(status?),
    }
}

fn reap_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<ExitStatus>, Errno> {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options))?;
    Ok(status.map(|status| exit_status(&status)))
}

/// Tells whether the process has ended.
pub(crate) fn ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    readable(pidfd, Deadline::PASSED)
}

/// How long a process that has ended may take to be reaped by its parent.
pub(crate) const REAPING: Duration = Duration::from_secs(1);

/// Returns how a process ended that the kernel reaps, or whose parent may have ended before it.
/// This process may be its parent now. Returns `None` if that is not known at the deadline.
pub(crate) fn status_of_orphan(pidfd: BorrowedFd<'_>, deadline: Deadline) -> Option<ExitStatus> {
    loop {
        // Asked first, because the kernel knows the status of what was reaped before.
        let reaped = hung_up(pidfd, Deadline::PASSED).unwrap_or(false);
        let status = status_of_other(pidfd, Deadline::PASSED);
        if status != ExitStatus::Unknown || reaped {
            return Some(status);
        }
        if let Ok(Some(status)) = reap_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            return Some(status);
        }
        if deadline.has_passed() {
            return None;
        }
        // A kernel that does not tell may still make this process the parent.
        let _ = hung_up(pidfd, Deadline::after(Duration::from_millis(1)));
    }
}

/// Tells whether the children of this process are in another PID namespace than the process itself,
/// where their numbers are others.
pub(crate) fn children_are_in_another_namespace() -> bool {
    let file = |name| rustix::fs::stat(name).map(|file| file.st_ino);
    match (file("/proc/thread-self/ns/pid"), file("/proc/thread-self/ns/pid_for_children")) {
        (Ok(own), Ok(of_children)) => own != of_children,
        // It does not exist before its first process.
        (own, _) => own.is_ok(),
    }
}

/// Asks the kernel how a process ended that another process has reaped, or reaps before the
/// deadline. The kernel knows it since Linux 6.15.
pub(crate) fn status_of_other(pidfd: BorrowedFd<'_>, deadline: Deadline) -> ExitStatus {
    /// `struct pidfd_info` of Linux's pidfd.h, as far as it goes in the first version.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    /// `PIDFD_INFO_EXIT`: the exit code is wanted, and known.
    const EXIT: u64 = 1 << 3;
    /// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)`.
    const GET_INFO: libc::Ioctl = 0xC000_FF0B | (size_of::<Info>() as libc::Ioctl) << 16;
    loop {
        let mut info = Info { mask: EXIT, ..Info::default() };
        // SAFETY: the operation writes a struct of that size, which its number contains, to a valid
        // place. A kernel that does not know it, and a descriptor that is not a pidfd, refuse it.
        let asked = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
        if asked == 0 && info.mask & EXIT != 0 {
            return ExitStatus::from_wait(info.exit_code);
        }
        // A pidfd hangs up once the process is reaped.
        if asked != 0 || !hung_up(pidfd, deadline).unwrap_or(false) {
            return ExitStatus::Unknown;
        }
    }
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

/// Sends a signal to the process group that a process leads, and to the process if it has left that
/// group.
///
/// Before Linux 6.9 it does nothing if the process was reaped, because its number may be another's
/// then. The caller sees to it that this process does not reap it meanwhile.
pub(crate) fn signal_group(leader: Pid, pidfd: BorrowedFd<'_>, to_send: Signal) -> io::Result<()> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP`
    const GROUP: u32 = 1 << 2;
    let group = match send(pidfd, to_send.as_raw(), GROUP) {
        Err(Errno::SRCH) => Ok(()),
        Err(Errno::INVAL) if send(pidfd, 0, 0) == Err(Errno::SRCH) => return Ok(()),
        Err(Errno::INVAL) => match kill_process_group(leader, to_send) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        },
        other => Ok(other?),
    };
    if matches!(getpgid(Some(leader)), Ok(group) if group != leader) { signal(pidfd, to_send) } else { group }
}

/// Calls pidfd_send_signal(2) with what rustix lacks: signal 0, which only asks, and flags.
fn send(pidfd: BorrowedFd<'_>, signal: i32, flags: u32) -> rustix::io::Result<()> {
    // SAFETY: a signal has no effect on memory, and null is allowed as the third argument.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, null::<c_void>(), flags) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)) }
}

/// Kills a child that cannot be used, and reaps it.
pub(crate) fn discard(child: Pid) {
    // The child is not reaped yet, so its pid cannot belong to another process.
    let _ = rustix::process::kill_process(child, Signal::KILL);
    let _ = retry_on_intr(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED));
}
