//! The link to a process of this host: shared memory, and a connection for what is long or holds
//! descriptors.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::{Message, error_chain};
use mp_core::{Connection, Fd, JoinError, Process, RecvError, SendErrorReason, SpawnError, duplex};
use mp_queue::ring::raw::{Consumer, Producer};

use super::{Death, End, Link, News, SendFailure};
use crate::board::{Board, Broken, Claimed, NO_END, Until};
use crate::error::TaskError;
use crate::events::{Event, Events};
use crate::settings::Settings;
use crate::wire::{Shared, ToPool, ToWorker};
use crate::worker::{WorkerLink, worker};

/// One worker of this host. No method sleeps.
pub(crate) struct Local {
    connection: Connection<ToWorker, ToPool>,
    process: Process<()>,
    events: Arc<Events>,
    outbox: Producer<Board>,
    inbox: Consumer<Board>,
    /// How many times the worker may wake the pool.
    wakes: u32,
    is_ready: bool,
}

impl Local {
    /// Starts the `number`th worker of a pool, in this place among those that there are. `events`
    /// tells what it says and when it ends.
    pub(crate) fn start(
        settings: &Settings,
        number: usize,
        place: usize,
        events: &Arc<Events>,
    ) -> Result<Self, SpawnError> {
        let io = |action| move |source| SpawnError::Io { action, source };
        let memory = || io("making the memory to share with a worker");
        let board = Board::create().map_err(memory())?;
        let file = board.as_fd().try_clone_to_owned().map_err(memory())?;
        let (outbox, inbox) = Board::for_pool(board).map_err(memory())?;
        let (connection, theirs) = duplex().map_err(io("making the worker's connection"))?;
        let end = WorkerLink(theirs, Fd(file));
        let builder = settings.process_builder(number, place)?;
        let process = builder.spawn(worker::call(end, settings.setup()))?;
        let link = Self { connection, process, events: Arc::clone(events), outbox, inbox, wakes: 0, is_ready: false };
        let said = events.add(&link.connection, Event::Said(number));
        said.and_then(|()| events.add(&link.process, Event::Ended(number))).map_err(io("watching a worker"))?;
        Ok(link)
    }

    fn board(&self) -> &Board {
        self.inbox.head()
    }

    fn wake(&self) {
        // If there is no room it has not read the last ones yet, and is awake; if it is lost, that
        // will be noticed.
        let _ = self.connection.try_send(ToWorker::Wake);
    }
}

impl Link for Local {
    fn name(&self) -> String {
        self.process.name().to_owned()
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn hear(&mut self) -> Result<News, Broken> {
        loop {
            return match self.connection.try_recv() {
                Ok(None) => Ok(News::Nothing),
                Ok(Some(ToPool::Wake)) => {
                    self.wakes = self.wakes.checked_sub(1).ok_or(Broken)?;
                    continue;
                }
                Ok(Some(ToPool::Ready)) if !self.is_ready => {
                    self.is_ready = true;
                    Ok(News::Ready)
                }
                Ok(Some(ToPool::NotReady(why))) if !self.is_ready => Ok(News::NotReady(why)),
                Ok(Some(ToPool::Ready | ToPool::NotReady(_))) => Err(Broken),
                Ok(Some(ToPool::Outcome(position, outcome))) => Ok(News::Outcome(Ok((position, outcome)))),
                Err(RecvError::Disconnected) => {
                    // Otherwise this would be told for as long as it runs.
                    self.events.remove(&self.connection);
                    Ok(News::Silent)
                }
                // The message is gone, for lack of descriptors for example.
                Err(error @ RecvError::Io(_)) => Ok(News::Outcome(Err(TaskError::NotReceived(error_chain(&error))))),
                Err(_) => Err(Broken),
            };
        }
    }

    fn has_results(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken> {
        self.inbox.take(entries)?;
        if self.board().worker_sleeps.is_to_be_woken(Until::Room) {
            self.wake();
        }
        Ok(())
    }

    fn claimed(&self) -> Claimed {
        self.board().claim.get()
    }

    fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool {
        self.board().claim.change(from, to)
    }

    fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken> {
        let Range { start: answered, end } = sent;
        loop {
            let claimed = self.claimed();
            let is_known = answered <= claimed.next && claimed.next <= end;
            if !is_known || claimed.end != if fenced { end } else { NO_END } {
                return Err(Broken);
            }
            let fence = claimed.next.saturating_add(keep).min(end);
            if fence == end && !fenced {
                return Ok(None);
            }
            if self.change_claim(claimed, Claimed { end: fence, ..claimed }) {
                return Ok(Some(fence));
            }
        }
    }

    fn room(&self) -> Result<usize, Broken> {
        Ok(self.outbox.room()?)
    }

    fn write(&mut self, entries: &[u8]) -> Result<(), Broken> {
        // There was room before, and an honest worker only makes more.
        if self.outbox.write(entries)? { Ok(()) } else { Err(Broken) }
    }

    fn publish(&mut self) {
        self.outbox.publish();
        if self.board().worker_sleeps.is_to_be_woken(Until::More) {
            self.wake();
        }
    }

    fn send(&self, message: Arc<Message>) -> Result<(), SendFailure> {
        self.connection.try_send(ToWorker::Message(Shared(message))).map_err(|error| match error.reason {
            SendErrorReason::Disconnected => SendFailure::Lost,
            SendErrorReason::Full => SendFailure::Full,
            other => SendFailure::Refused(error_chain(&other)),
        })
    }

    fn ask_for_wake(&mut self) -> bool {
        if !self.board().pool_sleeps.set(Until::More) {
            return false;
        }
        self.wakes += 1;
        self.has_results()
    }

    fn forgo_wake(&mut self) {
        if self.board().pool_sleeps.clear() {
            self.wakes = self.wakes.saturating_sub(1);
        }
    }

    fn has_ended(&self) -> bool {
        self.process.exit_status().is_some()
    }

    fn death(&mut self) -> Option<Death> {
        let status = self.process.exit_status()?;
        let panic = match self.process.join_timeout(Duration::ZERO) {
            Err(JoinError::Panicked(panic)) => Some(panic),
            _ => None,
        };
        Some(Death { end: End::Exited(status), panic })
    }

    fn resident(&self) -> Option<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    fn kill(&self) {
        // It fails only if the worker changed its user, and then its link is all that can be taken
        // from it.
        let _ = self.process.kill();
    }
}

/// However a link is dropped, no worker outlives it.
impl Drop for Local {
    fn drop(&mut self) {
        self.events.remove(&self.connection);
        self.events.remove(&self.process);
        if self.process.is_alive() {
            // As above.
            let _ = self.process.kill();
            // A killed process ends by itself. If it could not be killed, or cannot be waited for,
            // the next spawn reaps it.
            let _ = mp_core::wait(&[&self.process], Some(Duration::from_secs(1)));
        }
    }
}
