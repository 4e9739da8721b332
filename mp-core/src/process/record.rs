//! What this process knows of a child. The child's `Process` and the list of children share it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::connection::Receiver;
use crate::exit_status::ExitStatus;
use crate::pollable::PollableFd;
use crate::sys::lifeline::Lifeline;
use crate::sys::poll::{self, Deadline};
use crate::sys::process;
use crate::trace;

/// A child that was started.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: String,
    /// The name of the function that it runs.
    pub(super) function: &'static str,
    pid: Pid,
    pub(super) pidfd: PollableFd,
    /// Whether it is a fork server, which is not listed.
    pub(super) is_server: bool,
    /// Whether signals go to the process group that the child leads.
    leads_group: bool,
    /// Whether its end is waited for first, and its status is taken under the lock.
    waits_by_poll: bool,
    life: Mutex<Life>,
}

#[derive(Debug)]
enum Life {
    Running {
        /// Closing it kills a child that still runs.
        _lifeline: Lifeline,
        reaper: Reaper,
    },
    Reaped(ExitStatus),
}

/// Who reaps a child.
#[derive(Debug)]
pub(super) enum Reaper {
    /// This process, which is its parent for the kernel.
    Parent,
    /// The fork server that made it.
    Server {
        server: Arc<Record>,
        /// Where the server sends the status, if the kernel does not tell it.
        report: Option<Receiver<i32>>,
        /// When whoever reaps it, now that the server has ended, should have done so.
        by: Option<Deadline>,
    },
}

/// How long calls that do not wait for a process leave the one who reaps it to say how it ended.
const REPORTING: Duration = Duration::from_millis(100);

impl Reaper {
    /// Returns how the child ended; `None` while it runs, while a debugger holds it, or while a
    /// fork server that has not yet reaped it is stopped.
    fn status(&mut self, pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
        let (server, report, by) = match self {
            Self::Parent => return process::reap(pidfd),
            Self::Server { .. } if !process::ended(pidfd)? => return Ok(None),
            Self::Server { server, report, by } => (server, report, by),
        };
        match report.as_ref().map(|report| report.recv_timeout(REPORTING)) {
            Some(Ok(status)) => return Ok(status.map(ExitStatus::from_wait)),
            // The server has ended.
            Some(Err(_)) => *report = None,
            None => {}
        }
        let status = process::status_of_orphan(pidfd, Deadline::after(REPORTING));
        if status.is_some() || server.runs() {
            return Ok(status);
        }
        let by = *by.get_or_insert_with(|| Deadline::after(process::REAPING));
        Ok(by.has_passed().then_some(ExitStatus::Unknown))
    }
}

impl Life {
    fn status(&self) -> Option<ExitStatus> {
        match self {
            Self::Running { .. } => None,
            Self::Reaped(status) => Some(*status),
        }
    }
}

impl Record {
    pub(super) fn new(
        (name, function): (String, &'static str),
        (pid, pidfd): (Pid, OwnedFd),
        lifeline: Lifeline,
        reaper: Reaper,
        leads_group: bool,
    ) -> Self {
        let waits_by_poll = leads_group || matches!(reaper, Reaper::Server { .. });
        let life = Mutex::new(Life::Running { _lifeline: lifeline, reaper });
        Self { name, function, pid, pidfd: PollableFd::new(pidfd), is_server: false, leads_group, waits_by_poll, life }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Reaps the child if it has ended.
    pub(super) fn status(&self) -> io::Result<Option<ExitStatus>> {
        let mut life = self.life();
        let status = match &mut *life {
            Life::Reaped(status) => return Ok(Some(*status)),
            Life::Running { reaper, .. } => reaper.status(self.as_fd())?,
        };
        let Some(status) = status else { return Ok(None) };
        *life = Life::Reaped(status);
        drop(life);
        self.trace_end(status);
        Ok(Some(status))
    }

    /// Waits until the child has ended, and reaps it.
    pub(super) fn wait(&self) -> io::Result<Option<ExitStatus>> {
        // The lock is not held while waiting, so that other threads can ask for the status. If one
        // of them reaps the child first, it stores the status.
        if self.waits_by_poll {
            // The leader of a group is reaped under the lock, so that `signal` knows whether its
            // number is still its own.
            poll::readable(self.as_fd(), Deadline::NEVER)?;
        } else if let Some(reaped) = process::wait(self.as_fd())? {
            *self.life() = Life::Reaped(reaped);
            self.trace_end(reaped);
        }
        self.status()
    }

    /// Called without the lock, because a subscriber of `tracing` may ask for the status of this
    /// child.
    fn trace_end(&self, status: ExitStatus) {
        trace::reaped(&self.name, self.pid(), status);
    }

    /// Like `status`, for callers that cannot handle an error.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        // Waiting for a child of ours should not fail. If it does, how the child ended cannot be
        // known.
        self.status().unwrap_or(Some(ExitStatus::Unknown))
    }

    /// Tells whether the child has not ended, even if how it ended is not known.
    pub(super) fn runs(&self) -> bool {
        !process::ended(self.as_fd()).unwrap_or(true)
    }

    /// Tells whether the child has ended and was reaped.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status(), Ok(Some(_)))
    }

    /// Writes the `Debug` form of the type `of`, which stands for the child.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, of: &str) -> fmt::Result {
        f.debug_struct(of)
            .field("name", &self.name)
            .field("function", &self.function)
            .field("pid", &self.pid())
            .field("exit_status", &self.exit_status())
            .finish_non_exhaustive()
    }

    /// Sends a signal, or does nothing if the child has ended.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        trace::signalled(&self.name, self.pid(), signal.as_raw());
        if !self.leads_group {
            return process::signal(self.as_fd(), signal);
        }
        // The number of the group is the child's, until the child is reaped.
        let life = self.life();
        match life.status() {
            None => process::signal_group(self.pid, self.as_fd(), signal),
            Some(_) => Ok(()),
        }
    }

    /// Kills the child, unless it was reaped.
    pub(super) fn kill_if_running(&self) {
        let running = self.life().status().is_none();
        if running {
            // It fails only for a child that changed its user.
            let _ = self.signal(Signal::KILL);
        }
    }
}

/// The sentinel: readable once the child has ended.
impl AsFd for Record {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
