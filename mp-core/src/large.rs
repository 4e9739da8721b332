//! The large messages of one sending end: memory files, and which of them are in flight. An end is
//! one of a connection, or a transport that sends nested messages.
//!
//! | a memory file is | left by |
//! |---|---|
//! | being written, by a thread that encodes a message | sending it: to in flight. Failure: to spare |
//! | in flight | the receipt is closed: to spare |
//! | spare | the next large message: to being written. Too much is spare in this process: freed |
//!
//! A receipt is a pipe. Its write end is sent with the message. The receiver closes it after it has
//! read the message, and the kernel closes it if every possible receiver dies.
//!
//! 1. At most [`MOST_IN_FLIGHT`] messages of an end are in flight, so unread memory is
//!    bounded. With two, the receiver can read one while the next one is on its way.
//! 2. Encoding never waits: it takes a spare file or makes one. Sending waits for a receipt, until
//!    its own deadline and without the lock.
//! 3. A file is written again only after its receipt was closed; no receiver reads it then.
//! 4. A receiver that keeps a receipt holds up this end alone. One that keeps the descriptor of a
//!    file can read later messages of this end, and cannot change them.
//! 5. The copy of an end in the child of a fork gives up the files: two processes must not write
//!    different messages into the same pages.
//! 6. A nested message is in flight from when it is made until its receiver, or whoever drops it
//!    unsent, closes the receipt in it. There may be more of them: what is beyond
//!    [`MOST_LENT`] is in a file that is used once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Resource, getrlimit};

use crate::pollable::PollableFd;
use crate::sys::fd;
use crate::sys::fork::forks;
use crate::sys::memfd::MemoryFile;
use crate::sys::poll::{self, Deadline};

/// How many large messages of an end may wait for their receivers.
const MOST_IN_FLIGHT: usize = 2;

/// How many nested messages of an end are in files that will be used again.
const MOST_LENT: usize = 16;

/// How many bytes of memory this process keeps in spare files, of all ends together.
const MOST_SPARE: u64 = 96 << 20;

static SPARE: AtomicU64 = AtomicU64::new(0);

/// The memory files of long messages that a transport sends, to be used again
/// ([`Message::append`](crate::raw::Message::append)).
///
/// The receiver of a message reports that it has read it, and the kernel reports if it dies. Then
/// the next message goes into the same memory, which takes less time than allocating it. Up to
/// 96 MiB that are not in use stay allocated, in all transports of a process together.
#[derive(Debug, Default)]
pub struct LargeMessages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The process to which the files belong, by the number of forks before it.
    forks: u32,
    in_flight: Vec<InFlight>,
    spare: Vec<SpareFile>,
}

#[derive(Debug)]
struct InFlight {
    receipt: Receipt,
    /// `None` until the message was sent.
    file: Option<MemoryFile>,
}

/// The sender's end of a receipt, which hangs up when the message was read.
pub(crate) type Receipt = Arc<PollableFd>;

/// The right to have one more message in flight.
pub(crate) struct Credit {
    receipt: Receipt,
    /// The end that is sent with the message. If it is not sent, closing it returns the credit.
    pub(crate) receivers_end: OwnedFd,
}

impl LargeMessages {
    /// Takes a spare memory file, or makes a new one.
    pub(crate) fn file(&self) -> io::Result<MemoryFile> {
        let spare = {
            let mut state = self.lock();
            state.collect()?;
            state.spare.pop()
        };
        match spare.and_then(SpareFile::take) {
            Some(mut file) => {
                file.clear();
                Ok(file)
            }
            None => MemoryFile::create(),
        }
    }

    /// The same for a nested message; `None` if as many as may be are lent, or there is no
    /// descriptor for another one.
    pub(crate) fn file_to_lend(&self) -> Option<MemoryFile> {
        let lent = {
            let mut state = self.lock();
            state.collect().ok()?;
            state.in_flight.len()
        };
        if lent < most_lent() { self.file().ok() } else { None }
    }

    /// Takes a credit if there is one. Otherwise returns the receipts, one of which has to be
    /// closed first.
    pub(crate) fn try_credit(&self) -> io::Result<Result<Credit, Vec<Receipt>>> {
        let mut state = self.lock();
        state.collect()?;
        if state.in_flight.len() >= MOST_IN_FLIGHT {
            return Ok(Err(state.receipts()));
        }
        let (mine, receivers_end) = fd::pipe()?;
        let receipt = Arc::new(PollableFd::new(mine));
        state.in_flight.push(InFlight { receipt: Arc::clone(&receipt), file: None });
        Ok(Ok(Credit { receipt, receivers_end }))
    }

    /// Records that the message in `file` was sent.
    pub(crate) fn sent(&self, credit: Credit, file: MemoryFile) {
        let Credit { receipt, receivers_end } = credit;
        let mut state = self.lock();
        match state.in_flight.iter_mut().find(|message| Arc::ptr_eq(&message.receipt, &receipt)) {
            Some(message) => message.file = Some(file),
            None => state.keep(file),
        }
        drop(state);
        drop(receivers_end);
    }

    /// Takes back a file whose message was not sent.
    pub(crate) fn give_back(&self, file: MemoryFile) {
        self.lock().keep(file);
    }

    /// Returns the descriptor for the receiver of the nested message in `file`, and its receipt if
    /// the file will be used again.
    pub(crate) fn lend(&self, file: MemoryFile) -> (OwnedFd, Option<OwnedFd>) {
        let mut state = self.lock();
        // There may be no descriptor left for it. The message can be sent all the same.
        if state.collect().is_err() || state.in_flight.len() >= most_lent() {
            return (file.into_reader().0, None);
        }
        let (Ok((mine, receivers_end)), Ok(reader)) = (fd::pipe(), file.reader().try_clone_to_owned()) else {
            return (file.into_reader().0, None);
        };
        state.in_flight.push(InFlight { receipt: Arc::new(PollableFd::new(mine)), file: Some(file) });
        (reader, Some(receivers_end))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let forks = forks();
        if state.forks != forks {
            *state = State { forks, ..State::default() };
        }
        state
    }
}

/// How many nested messages of an end may be in files that will be used again. Each takes up to
/// five descriptors, and the program needs some as well.
fn most_lent() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(MOST_LENT, |limit| usize::try_from(limit / 64).unwrap_or(MOST_LENT).min(MOST_LENT))
}

impl State {
    fn receipts(&self) -> Vec<Receipt> {
        self.in_flight.iter().map(|message| Arc::clone(&message.receipt)).collect()
    }

    /// Makes the files of messages that have been read spare.
    fn collect(&mut self) -> io::Result<()> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let mut fds = hang_ups(self.in_flight.iter().map(|message| &message.receipt));
        poll::wait(&mut fds, Deadline::PASSED)?;
        let read: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for place in (0..read.len()).rev().filter(|place| read[*place]) {
            let message = self.in_flight.remove(place);
            if let Some(file) = message.file {
                self.keep(file);
            }
        }
        Ok(())
    }

    fn keep(&mut self, file: MemoryFile) {
        if self.spare.len() < MOST_LENT {
            self.spare.extend(SpareFile::new(file));
        }
    }
}

/// Waits until one of `receipts` is closed, and returns false if the deadline passes first.
pub(crate) fn wait_for_one(receipts: &[Receipt], deadline: Deadline) -> io::Result<bool> {
    poll::wait(&mut hang_ups(receipts.iter()), deadline).map(|closed| closed > 0)
}

fn hang_ups<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Vec<PollFd<'a>> {
    receipts.map(|receipt| PollFd::from_borrowed_fd(receipt.as_fd(), PollFlags::empty())).collect()
}

/// A file that counts as spare in this process.
#[derive(Debug)]
struct SpareFile(Option<MemoryFile>);

impl SpareFile {
    /// Returns `None`, and frees the file, if this process has too many spare bytes.
    fn new(file: MemoryFile) -> Option<Self> {
        let bytes = file.allocated();
        if SPARE.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST_SPARE {
            SPARE.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self(Some(file)))
    }

    fn take(mut self) -> Option<MemoryFile> {
        let file = self.0.take();
        SPARE.fetch_sub(file.as_ref().map_or(0, MemoryFile::allocated), Ordering::Relaxed);
        file
    }
}

impl Drop for SpareFile {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            SPARE.fetch_sub(file.allocated(), Ordering::Relaxed);
        }
    }
}
