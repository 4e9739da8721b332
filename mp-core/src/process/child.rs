//! A child as its parent sees it: its state and its report.

use std::io;
use std::mem;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};

use super::children::{self, ChildInfo, Key};
use super::record::{Reaper, Record};
use crate::boot::{Report, Start};
use crate::connection::{Receiver, RecvError, SendErrorReason, Sender};
use crate::exit_status::ExitStatus;
use crate::sys::poll::{self, Deadline};
use crate::sys::process;

/// The owner of a child in the parent. If it is dropped, the child keeps running and is reaped
/// later.
#[derive(Debug)]
pub(super) struct Child {
    record: Arc<Record>,
    key: Key,
    pub(super) kill_on_drop: bool,
}

impl Child {
    pub(super) fn new(record: Record, kill_on_drop: bool) -> Self {
        let record = Arc::new(record);
        Self { key: children::add(&record), record, kill_on_drop }
    }

    /// What is known of the child, for code that has to outlive this.
    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Describes the child, likewise.
    pub(super) fn info(&self) -> ChildInfo {
        ChildInfo::new(self.record())
    }

    /// Tells whether this process started the child, and is not a copy of the one that did.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.key.is_of_this_process()
    }

    /// Kills a child that has not received its start message, and waits for its end.
    pub(super) fn discard(self) {
        // Neither call should fail for a child of ours. If one does, the next spawn reaps this
        // child.
        if self.signal(Signal::KILL).is_ok() {
            let _ = poll::readable(self.as_fd(), Deadline::NEVER);
        }
    }
}

impl Deref for Child {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop && self.is_of_this_process() {
            self.record.kill_if_running();
        }
        children::detach(&self.key);
    }
}

/// A process that was made.
pub(super) struct Made {
    pub(super) control: Receiver<Report>,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) reaper: Reaper,
    /// The start message, if the process waits for it.
    pub(super) start: Option<Unsent>,
}

/// A start message that was not sent.
pub(super) struct Unsent {
    pub(super) start: Start,
    pub(super) control: Sender<Start>,
    /// The other end of the control socket. It stays open until the message was sent. So sending
    /// to a process that has already ended succeeds and leaves the message unread, which `join`
    /// notices.
    pub(super) theirs: OwnedFd,
}

impl Unsent {
    pub(super) fn send(self) -> Result<(), SendErrorReason> {
        let sent = self.control.send(self.start).map_err(|error| error.reason);
        drop(self.theirs);
        sent
    }
}

/// What the parent received through a child's control socket.
#[derive(Debug)]
pub(super) enum Answer {
    Report(Report),
    /// A message that is not a report.
    Malformed(RecvError),
    /// The child ended without a report.
    NoReport {
        /// The child did not read its start message.
        unread: bool,
    },
}

/// The child's answer, and how it ended.
pub(super) type End = (Option<Answer>, ExitStatus);

/// The parent's end of the control socket, which receives at most one message.
#[derive(Debug)]
pub(super) struct ControlSocket(Mutex<Received>);

#[derive(Debug)]
enum Received {
    NotYet(Receiver<Report>),
    Answer(Answer),
    Taken,
}

impl ControlSocket {
    pub(super) fn new(control: Receiver<Report>) -> Self {
        Self(Mutex::new(Received::NotYet(control)))
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the child has ended, and returns its answer. Returns `None` if it still runs at
    /// the deadline, and may be called again.
    pub(super) fn wait(&mut self, child: &Child, deadline: Deadline) -> io::Result<Option<End>> {
        // It waits for the end only. Waiting for the report as well would wake this process twice.
        loop {
            if deadline.is_never() {
                child.wait()?;
            } else if !poll::readable(child.as_fd(), deadline)? {
                return Ok(None);
            }
            if let Some(end) = self.try_wait(child)? {
                return Ok(Some(end));
            }
            // It has ended, but a tracer, such as a debugger, may get the status before the parent
            // does, and a fork server may be stopped.
            if deadline.has_passed() {
                return Ok(None);
            }
            std::thread::yield_now();
        }
    }

    /// Like `wait`, but returns `None` at once if the child still runs.
    pub(super) fn try_wait(&mut self, child: &Child) -> io::Result<Option<End>> {
        let status = match child.status()? {
            None if process::ended(child.as_fd())? => {
                self.close();
                // What it has reported counts, however it ended.
                let reported = matches!(&*self.received(), Received::Answer(Answer::Report(_)));
                reported.then_some(ExitStatus::Unknown)
            }
            status => status,
        };
        Ok(status.map(|status| self.end(status)))
    }

    fn end(&mut self, status: ExitStatus) -> End {
        self.close();
        match mem::replace(&mut *self.received(), Received::Taken) {
            Received::Answer(answer) => (Some(answer), status),
            Received::NotYet(_) | Received::Taken => (None, status),
        }
    }

    /// Receives the answer of a child that has ended, and closes the socket.
    pub(super) fn close(&self) {
        let mut received = self.received();
        let Received::NotYet(control) = &*received else { return };
        // The child has ended, so its report, if it sent one, is in the socket.
        let answer = match control.try_recv() {
            Ok(Some(report)) => Answer::Report(report),
            // There may be no end of the stream, because a descendant of the child may hold a copy
            // of its descriptor.
            Ok(None) | Err(RecvError::Disconnected) => Answer::NoReport { unread: control.peer_left_unread() },
            Err(error) => Answer::Malformed(error),
        };
        *received = Received::Answer(answer);
    }
}
