//! What the scheduler knows of a worker: a way to reach it, wherever it runs.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mp_core::raw::peer_left_unread;
use mp_core::{Builder, Connection, ExitStatus, Process, RecvError, SendErrorReason, SpawnError, duplex};

use crate::error::with_causes;
use crate::protocol::{Reply, Request};
use crate::worker::worker;

/// What there is to receive from a worker.
pub(crate) enum FromWorker {
    Reply(Reply),
    /// A reply arrived that cannot be read, for lack of descriptors for example, and why.
    Unreadable(String),
    /// Nothing so far.
    Nothing,
    /// Nothing any more, or nothing that makes sense.
    Lost,
}

/// Why a request was not sent.
pub(crate) enum SendFailure {
    /// There is no worker any more, which [`Link::receive`] will say as well.
    Lost(Request),
    /// This request cannot be sent, to this worker or another: there is no descriptor for its
    /// handles, or no memory.
    Refused(String),
}

/// One worker. No method sleeps.
pub(crate) trait Link: Send + Sync {
    fn send(&self, request: Request) -> Result<(), SendFailure>;

    fn receive(&self) -> FromWorker;

    /// How the worker ended; `None` while it runs.
    fn exit_status(&self) -> Option<ExitStatus>;

    /// Whether the worker turned out to have ended without having looked at everything that it was
    /// sent.
    fn left_unread(&self) -> bool;

    /// Ends the worker, whatever it does.
    fn kill(&self);

    fn descriptors(&self) -> Descriptors<'_>;
}

/// What to sleep beside.
pub(crate) struct Descriptors<'a> {
    /// Readable when there is something to receive, or nothing any more.
    pub(crate) says_something: BorrowedFd<'a>,
    /// Readable when the worker has ended.
    pub(crate) has_ended: BorrowedFd<'a>,
}

/// Starts a worker, by name.
pub(crate) type Start = dyn Fn(String) -> Result<Box<dyn Link>, SpawnError> + Send + Sync;

/// A worker that is a process on this machine, over a socket.
pub(crate) struct Local {
    connection: Connection<Request, Reply>,
    process: Process<()>,
}

impl Local {
    pub(crate) fn start(name: String) -> Result<Box<dyn Link>, SpawnError> {
        let (connection, theirs) =
            duplex().map_err(|source| SpawnError::Io { action: "making the worker's connection", source })?;
        let process = Builder::new().name(name).spawn(worker::call(theirs))?;
        Ok(Box::new(Self { connection, process }))
    }
}

impl Link for Local {
    fn send(&self, request: Request) -> Result<(), SendFailure> {
        // A long call stands in memory of its own and travels as a handle, and a worker is sent one
        // call at a time, so there is always room.
        self.connection.try_send(request).map_err(|error| match error.reason {
            SendErrorReason::Disconnected => SendFailure::Lost(error.value),
            other => SendFailure::Refused(with_causes(&other)),
        })
    }

    fn receive(&self) -> FromWorker {
        match self.connection.try_recv() {
            Ok(Some(reply)) => FromWorker::Reply(reply),
            Ok(None) => FromWorker::Nothing,
            Err(RecvError::Disconnected) => FromWorker::Lost,
            // Every other error concerns one message, which is gone.
            Err(error) => FromWorker::Unreadable(with_causes(&error)),
        }
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    fn left_unread(&self) -> bool {
        peer_left_unread(&self.connection)
    }

    fn kill(&self) {
        // It fails only if the worker changed its user, and then its link is all that can be taken
        // from it.
        let _ = self.process.kill();
    }

    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors { says_something: self.connection.as_fd(), has_ended: self.process.as_fd() }
    }
}

/// However a link is let go of, no worker is left behind it.
impl Drop for Local {
    fn drop(&mut self) {
        if self.process.is_alive() {
            self.kill();
            // A killed process ends by itself. If it could not be killed, or cannot be waited for,
            // the next spawn reaps it.
            let _ = mp_core::wait(&[&self.process], Some(Duration::from_secs(1)));
        }
    }
}
