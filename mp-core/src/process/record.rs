//! What this process knows of a child. The child's `Process` and the list of children share it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal};

use crate::exit_status::ExitStatus;
use crate::pollable::PollableFd;
use crate::sys::lifeline::Lifeline;
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
    /// Closing it kills a child that still runs.
    _lifeline: Lifeline,
    /// Set once the child was reaped.
    status: Mutex<Option<ExitStatus>>,
}

impl Record {
    pub(super) fn new(name: String, function: &'static str, pid: Pid, pidfd: OwnedFd, lifeline: Lifeline) -> Self {
        Self { name, function, pid, pidfd: PollableFd::new(pidfd), _lifeline: lifeline, status: Mutex::new(None) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Reaps the child if it has ended.
    pub(super) fn status(&self) -> io::Result<Option<ExitStatus>> {
        let reaped = {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            if status.is_some() {
                return Ok(*status);
            }
            *status = process::reap(self.as_fd())?;
            *status
        };
        if let Some(status) = reaped {
            self.trace_end(status);
        }
        Ok(reaped)
    }

    /// Waits until the child has ended, and reaps it.
    pub(super) fn wait(&self) -> io::Result<Option<ExitStatus>> {
        // The lock is not held while waiting, so that other threads can ask for the status. If one
        // of them reaps the child first, it stores the status.
        if let Some(reaped) = process::wait(self.as_fd())? {
            *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(reaped);
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
        process::signal(self.as_fd(), signal)
    }
}

/// The sentinel: readable once the child has ended.
impl AsFd for Record {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
