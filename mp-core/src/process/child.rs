//! A child as its parent knows it: how it is doing, and what it has said.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use super::ExitStatus;
use super::children::{self, Place};
use super::record::Record;
use crate::boot::{Report, Start};
use crate::connection::{Connection, RecvError};
use crate::sys::poll::{self, Deadline};

/// The parent's hold on a child. Letting go of it leaves the child running, and it will still be reaped.
#[derive(Debug)]
pub(super) struct Child {
    record: Arc<Record>,
    place: Place,
}

impl Child {
    pub(super) fn new(name: String, pid: Pid, pidfd: OwnedFd) -> Self {
        let record = Arc::new(Record::new(name, pid, pidfd));
        Self { place: children::add(&record), record }
    }

    /// Ends a child that was not told what to run, and waits for its end.
    pub(super) fn discard(self) {
        // Neither can fail for a child of ours; if one does, whoever starts the next process reaps this one.
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

pub(super) type Control = Connection<Start<BorrowedFd<'static>>, Report>;

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

/// The parent's side of the control socket, until the child's one message has come.
#[derive(Debug)]
pub(super) struct Dialogue {
    control: Option<Control>,
    answer: Option<Answer>,
}

impl Dialogue {
    pub(super) fn new(control: Control) -> Self {
        Self { control: Some(control), answer: None }
    }

    /// Waits until the child has ended, and returns what it had to say. `None` if it still runs at the deadline; the next call
    /// goes on from there.
    pub(super) fn wait(
        &mut self,
        child: &Child,
        deadline: Deadline,
    ) -> io::Result<Option<(Option<Answer>, ExitStatus)>> {
        loop {
            // In this order: what a child that has ended had to say is in the socket by then.
            let status = child.status()?;
            self.listen(status.is_some());
            if let Some(status) = status {
                return Ok(Some((self.answer.take(), status)));
            }
            if let Some(Answer::Report(Report::NotStarted(_))) = self.answer {
                // It may be a second copy of the program, which nobody asked for.
                child.signal(Signal::KILL)?;
            }
            let sentinel = PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN);
            let ready = match &self.control {
                Some(control) => poll::wait(&mut [sentinel, PollFd::new(control, PollFlags::IN)], deadline)?,
                None => poll::wait(&mut [sentinel], deadline)?,
            };
            if ready == 0 {
                return Ok(None);
            }
        }
    }

    fn listen(&mut self, ended: bool) {
        let Some(control) = &self.control else { return };
        self.answer = match control.try_recv() {
            Ok(Some(report)) => Some(Answer::Report(report)),
            // A descendant of the child may hold its end open.
            Ok(None) if ended => Some(Answer::Silence { unread: control.peer_left_unread() }),
            Ok(None) => None,
            Err(RecvError::Disconnected) => Some(Answer::Silence { unread: control.peer_left_unread() }),
            Err(error) => Some(Answer::Garbled(error)),
        };
        if self.answer.is_some() {
            self.control = None;
        }
    }
}
