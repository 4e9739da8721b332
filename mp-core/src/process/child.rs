//! A child as its parent knows it: how it is doing, and what it has said.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, Signal};

use super::children::{self, Place};
use super::record::Record;
use crate::boot::{Report, Start};
use crate::connection::{Connection, RecvError};
use crate::exit_status::ExitStatus;
use crate::sys::lifeline::Lifeline;
use crate::sys::poll::{self, Deadline};

/// The parent's hold on a child. Letting go of it leaves the child running, and it will still be
/// reaped.
#[derive(Debug)]
pub(super) struct Child {
    record: Arc<Record>,
    place: Place,
}

impl Child {
    pub(super) fn new(name: String, pid: Pid, pidfd: OwnedFd, lifeline: Lifeline) -> Self {
        let record = Arc::new(Record::new(name, pid, pidfd, lifeline));
        Self { place: children::add(&record), record }
    }

    /// Ends a child that was not told what to run, and waits for its end.
    pub(super) fn discard(self) {
        // Neither can fail for a child of ours; if one does, whoever starts the next process reaps
        // this one.
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
        children::let_go(&self.place);
    }
}

pub(super) type Control = Connection<Start, Report>;

/// What came of a child's control socket.
#[derive(Debug)]
pub(super) enum Answer {
    Report(Report),
    /// What arrived was no report.
    Garbled(RecvError),
    /// The child ended without one.
    Silence {
        /// The child never read what it was to do.
        unread: bool,
    },
}

/// What a child had to say, and how it ended.
pub(super) type End = (Option<Answer>, ExitStatus);

/// The parent's side of the control socket, over which comes one message at most.
#[derive(Debug)]
pub(super) struct Dialogue {
    control: Option<Control>,
    answer: Option<Answer>,
}

impl Dialogue {
    pub(super) fn new(control: Control) -> Self {
        Self { control: Some(control), answer: None }
    }

    /// Waits until the child has ended, and returns what it had to say. `None` if it still runs at
    /// the deadline; the next call goes on from there.
    pub(super) fn wait(&mut self, child: &Child, deadline: Deadline) -> io::Result<Option<End>> {
        // Only for its end: a report would wake this process while the child is still about to
        // exit.
        loop {
            let status = if deadline.is_never() {
                child.wait()?
            } else if poll::readable(child.as_fd(), deadline)? {
                child.status()?
            } else {
                return Ok(None);
            };
            match status {
                Some(status) => return Ok(Some(self.end(status))),
                // A debugger may be told before its parent.
                None => std::thread::yield_now(),
            }
        }
    }

    /// Takes in what there is now. `None` while the child runs: it is worth looking again when it
    /// has ended.
    #[cfg(feature = "async")]
    pub(super) fn look(&mut self, child: &Child) -> io::Result<Option<End>> {
        Ok(child.status()?.map(|status| self.end(status)))
    }

    fn end(&mut self, status: ExitStatus) -> End {
        // What it had to say is in the socket by now.
        self.listen();
        (self.answer.take(), status)
    }

    fn listen(&mut self) {
        let Some(control) = self.control.take() else { return };
        self.answer = Some(match control.try_recv() {
            Ok(Some(report)) => Answer::Report(report),
            // A descendant of the child may hold its end open.
            Ok(None) | Err(RecvError::Disconnected) => Answer::Silence { unread: control.peer_left_unread() },
            Err(error) => Answer::Garbled(error),
        });
    }
}
