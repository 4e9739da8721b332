//! Moving messages into the ring and out of it, with the waits in between.
//!
//! A thread that puts takes the producers' lock, and is the ring's producer while it has it; a
//! thread that gets takes the consumers' lock. It has the lock while it copies, and not while it
//! waits, so a process that is stopped while it waits holds nobody up. The two ends of a plain ring
//! need no lock.
//!
//! 1. No code of the user's runs while a lock is held: values are encoded before, and decoded
//!    after.
//! 2. A lock whose owner died is consistent: what counts is `head` and `tail`, see
//!    `protocol::index`. What a lock protects is a copy of the other side's index, which is checked
//!    before use.
//! 3. A message that holds descriptors, or is longer than half the ring, goes through the lane: a
//!    pipe of mp-core. It is sent there before its record is published, under the same lock, so the
//!    lane has the messages in the order of the records. One whose producer died in between has no
//!    record. One whose consumer died has none any longer. Both are passed over by their tags.
//! 4. While the ring is empty, the caller has both locks, and so nobody is in the middle of
//!    anything, all that is in the lane is such leftovers. A producer that finds the lane full
//!    empties it then, and so does a consumer that has waited in vain: a leftover may hold a handle
//!    that others wait for. A consumer that finds a closed ring empty does the same before it
//!    reports the end, so no producer can be about to publish (invariant 3 of `protocol::index`).
//!    Nobody waits for the producers' lock while it has the consumers' lock.
//! 5. A thread that is about to sleep first gives others the processor, once, as long as that pays.
//!    Where the two sides share a processor, the kernel runs a sleeper as soon as it is woken, in
//!    place of the one that woke it: each message would cost two switches and four system calls.
//!    After a yield there are many. It pays if there is more than one; if it does not, because the
//!    two sides take turns or others want the processor, it is tried ever more rarely.
//! 6. One waiter is woken for each change. One that finds more than it takes wakes the next, and so
//!    does one that needs more room than there is, once for each change. After a while a long
//!    message goes through the lane, so others that need less cannot pass it for ever.
//! 7. Whether the other side is gone, a thread asks the kernel before it sleeps if a process has
//!    left since it last asked, and otherwise after it has slept, for a process that was killed
//!    says nothing.

mod lane;
#[cfg(test)]
mod tests;
mod waiting;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mp_sync::futex::Deadline;
use mp_sync::{LockError, Mutex, MutexGuard};

use crate::batch::{Batch, Part};
use crate::error::{GetError, PutErrorReason};
use crate::memory::{Memory, Purpose};
use crate::protocol::access::{Damaged, HEADER, Kind, Reader, Writer};
use crate::protocol::index::Index;

/// How long a call that does not wait does wait for another process that is in the middle of a put
/// or a get, which takes a microsecond unless that process is not given a processor.
const PATIENCE: Duration = Duration::from_millis(10);

/// An instant at which the tests kill the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
enum Instant {
    /// A message is in the lane, and its record not in the ring.
    Sent,
    /// The records are in the ring, and not published.
    Written,
    /// They are published, and nobody was told.
    Published,
    /// The bytes of a record were copied out, and it was not taken.
    Copied,
    /// Tasks are counted as held, and not taken.
    Held,
    /// Records are taken, and what belongs to them in the lane is not.
    Taken,
    /// A message was taken from the lane.
    Received,
}

#[cfg(not(test))]
fn reached(_: Instant) {}

#[cfg(test)]
use tests::reached;

/// What became of an attempt to put.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Done,
    NoRoom,
    /// The ring has room, and the lane has none.
    LaneFull,
    /// Another producer was in the middle of a put all the time.
    Busy,
}

/// What became of an attempt to get.
pub(crate) enum Got<R> {
    Some(R),
    Nothing,
    /// Another consumer was in the middle of a get all the time.
    Busy,
}

impl Memory {
    /// The longest message, in bytes, that goes into the ring. It fits into an empty one wherever
    /// the record begins.
    #[inline]
    pub(crate) fn most_inline(&self) -> usize {
        self.size() / 2 - HEADER
    }

    /// Puts what is in `batch`, in order, and returns how many parts were put, with the reason why
    /// it is not all. `own` is how many consumers the caller is.
    #[inline]
    pub(crate) fn put(&self, batch: &mut Batch, deadline: Deadline, own: usize) -> (usize, Result<(), PutErrorReason>) {
        self.put_by(batch, deadline, own, |batch, put| {
            let Some(mut seen) = lock(&self.head().producer.0, deadline).map_err(PutErrorReason::Io)? else {
                return Ok(Attempt::Busy);
            };
            let mut writer = Writer::new(self.ring(), Index::from_bits(*seen));
            let result = self.write(&mut writer, batch, put);
            *seen = writer.head().bits();
            result
        })
    }

    /// The same by attempts, each made while the caller is the only producer.
    #[inline]
    pub(crate) fn put_by(
        &self,
        batch: &mut Batch,
        deadline: Deadline,
        own: usize,
        mut attempt: impl FnMut(&mut Batch, &mut usize) -> Result<Attempt, PutErrorReason>,
    ) -> (usize, Result<(), PutErrorReason>) {
        let mut put = 0;
        let mut waiting = self.for_room(deadline, own);
        loop {
            let before = put;
            let attempted = attempt(batch, &mut put);
            if put > before {
                self.notify_items();
            }
            let waited = match attempted {
                Err(reason) => Err(reason),
                Ok(Attempt::Done) => {
                    waiting.wait.found();
                    if self.head().indices.space.has_waiters() && !self.is_full() {
                        self.notify_space();
                    }
                    return (put, Ok(()));
                }
                Ok(why) => self.wait_for_room(&mut waiting, why, batch, put),
            };
            if let Err(reason) = waited {
                return (put, Err(reason));
            }
        }
    }

    /// Writes and publishes as many of the parts, from `put` on, as there is room for.
    #[inline]
    pub(crate) fn write(
        &self,
        writer: &mut Writer<'_>,
        batch: &mut Batch,
        put: &mut usize,
    ) -> Result<Attempt, PutErrorReason> {
        if self.is_closed() {
            return Err(PutErrorReason::Closed);
        }
        if self.head().no_consumers.load(Ordering::Relaxed) {
            return Err(PutErrorReason::Disconnected);
        }
        let mut end = batch.start;
        let written = self.write_parts(writer, &mut batch.parts[*put..], &batch.bytes, &mut end);
        reached(Instant::Written);
        *put += writer.publish() as usize;
        batch.start = end;
        reached(Instant::Published);
        written
    }

    #[inline]
    fn write_parts(
        &self,
        writer: &mut Writer<'_>,
        parts: &mut [Part],
        bytes: &[u8],
        end: &mut usize,
    ) -> Result<Attempt, PutErrorReason> {
        for part in parts {
            match part {
                Part::Bytes(length) => {
                    if !writer.write(Kind::Message, &bytes[*end..][..*length])? {
                        return Ok(Attempt::NoRoom);
                    }
                    *end += *length;
                }
                Part::Message(message) => match self.write_beside(writer, message)? {
                    Attempt::Done => {}
                    why => return Ok(why),
                },
                Part::Failed(_) => {}
            }
        }
        Ok(Attempt::Done)
    }

    /// Moves between one message and `most` into `batch`, waiting for the first one; `false` if
    /// none came in time. `own` is how many producers the caller is.
    #[inline]
    pub(crate) fn get(&self, batch: &mut Batch, most: usize, deadline: Deadline, own: usize) -> Result<bool, GetError> {
        let got = self.get_by(deadline, own, || {
            let Some(mut seen) = lock(&self.head().consumer.0, deadline).map_err(GetError::Io)? else {
                return Ok(Got::Busy);
            };
            let mut reader = Reader::new(self.ring(), Index::from_bits(*seen));
            let got = match reader.find()? {
                None => Ok(Got::Nothing),
                Some(_) => self.read(&mut reader, batch, most).map(Got::Some),
            };
            *seen = reader.tail().bits();
            got
        });
        if !batch.parts.is_empty() {
            self.notify_space();
        }
        // Whoever was woken for what is left, or for the end, may have been this thread.
        if self.head().indices.items.has_waiters() && self.is_readable() {
            self.notify_items();
        }
        got.map(|got| got.is_some())
    }

    /// Makes attempts to get, each while the caller is the only consumer, until one succeeds;
    /// `None` if none does in time.
    #[inline]
    pub(crate) fn get_by<R>(
        &self,
        deadline: Deadline,
        own: usize,
        mut attempt: impl FnMut() -> Result<Got<R>, GetError>,
    ) -> Result<Option<R>, GetError> {
        let mut waiting = self.for_item(deadline, own);
        loop {
            let looked = match attempt()? {
                Got::Some(got) => {
                    waiting.wait.found();
                    return Ok(Some(got));
                }
                Got::Nothing => true,
                Got::Busy => false,
            };
            if !self.wait_for_item(&mut waiting, looked)? {
                return Ok(None);
            }
        }
    }

    /// Moves the messages that are there into `batch`, `most` at most.
    #[inline]
    pub(crate) fn read(&self, reader: &mut Reader<'_>, batch: &mut Batch, most: usize) -> Result<(), GetError> {
        while batch.parts.len() < most && batch.bytes.len() <= self.most_inline() {
            let record = match reader.find() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(Damaged(what)) if batch.parts.is_empty() => return Err(GetError::Damaged(what)),
                Err(_) => break,
            };
            let start = batch.bytes.len();
            reader.copy(&record, &mut batch.bytes);
            reached(Instant::Copied);
            reader.pass(&record);
            if record.kind == Kind::Message {
                batch.parts.push(Part::Bytes(record.length));
                continue;
            }
            // The record goes first: should this process die now, the message in the lane is passed
            // over.
            self.take(reader);
            let part = self.receive(&batch.bytes[start..]);
            batch.bytes.truncate(start);
            batch.parts.push(part);
        }
        self.take(reader);
        Ok(())
    }

    #[inline]
    fn take(&self, reader: &mut Reader<'_>) {
        if self.purpose == Purpose::Joinable {
            self.hold(reader.passed());
            reached(Instant::Held);
        }
        reader.take();
        reached(Instant::Taken);
    }
}

impl Part {
    /// How many bytes it takes in the ring, without the header.
    #[inline]
    pub(crate) fn length_in_ring(&self) -> usize {
        match self {
            Self::Bytes(length) => *length,
            Self::Message(_) | Self::Failed(_) => size_of::<u64>(),
        }
    }
}

impl From<Damaged> for GetError {
    #[inline]
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

impl From<Damaged> for PutErrorReason {
    #[inline]
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

/// Takes the lock of a side; `None` if others had it until the deadline.
#[inline(always)]
fn lock(mutex: &Mutex<u64>, deadline: Deadline) -> io::Result<Option<MutexGuard<'_, u64>>> {
    let taken = match mutex.lock_until(deadline) {
        Ok(None) if deadline == Deadline::PASSED => mutex.lock_timeout(PATIENCE),
        other => other,
    };
    match taken {
        Ok(guard) => Ok(guard),
        Err(LockError::OwnerDied(mut guard)) => {
            guard.mark_consistent();
            Ok(Some(guard))
        }
        // No code of the user's runs under the lock.
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
