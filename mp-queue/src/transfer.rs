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
//!    that others wait for. Nobody waits for the producers' lock while it has the consumers' lock.
//! 5. A thread that is about to sleep first gives others the processor, once, as long as that pays.
//!    Where the two sides share a processor, the kernel runs a sleeper as soon as it is woken, in
//!    place of the one that woke it: each message would cost two switches and four system calls.
//!    After a yield there are many. It pays if there is more than one; if it does not, because the
//!    two sides take turns or others want the processor, it is tried ever more rarely.
//! 6. One waiter is woken for each change. One that finds more than it takes wakes the next. A
//!    waiter that needs more room than there is lets others put that need less; after a while its
//!    message goes through the lane, so it cannot be passed for ever.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::thread::yield_now;
use std::time::Duration;

use mp_core::raw::{self, Message, PollableFd, Wait};
use mp_core::{RecvError, SendErrorReason};
use mp_sync::futex::Deadline;
use mp_sync::{LockError, Mutex, MutexGuard};

use crate::batch::{Batch, Failure, Part};
use crate::error::{GetError, PutErrorReason};
use crate::memory::{LaneMessage, Memory, Purpose, Side};
use crate::protocol::access::{Damaged, Found, HEADER, Kind, Reader, Writer};
use crate::protocol::index::{Closed, Index};

/// How long a call that does not wait does wait for another process that is in the middle of a put
/// or a get, which takes a microsecond unless that process is not given a processor.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long a put that came too late for a closed queue waits to take its message out of the lane.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

/// How long a wait for the lane lasts before it looks at the queue again.
const LANE_RECHECK: Duration = Duration::from_millis(10);

/// More messages than the lane can hold.
const MOST_IN_LANE: usize = 1 << 16;

/// How long a long message waits for room in the ring.
const LONG_WAIT: Duration = Duration::from_millis(100);

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
        let mut wait = self.put_spins.wait(deadline != Deadline::PASSED);
        let mut patience = None;
        loop {
            let before = put;
            let attempted = attempt(batch, &mut put);
            if put > before {
                self.notify_items();
            }
            let why = match attempted {
                Err(reason) => {
                    if batch.parts[put..].iter().any(|part| matches!(part, Part::Message(None))) {
                        // It is in the lane, and came too late for a ring that was closed. Who
                        // finds the end later takes it out, if anybody does.
                        self.tidy_lane(deadline.min(Deadline::after(CLOSING_PATIENCE)));
                    }
                    return (put, Err(reason));
                }
                Ok(Attempt::Done) => {
                    wait.found();
                    let space = &self.head().indices.space;
                    if space.has_waiters() && !self.is_full() {
                        self.notify_space();
                    }
                    return (put, Ok(()));
                }
                Ok(why) => why,
            };
            if let Err(reason) = self.wait_for_room(batch, put, why, deadline, own, &mut wait, &mut patience) {
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
        let written = self.write_parts(writer, &mut batch.parts[*put..], &batch.bytes);
        reached(Instant::Written);
        match writer.publish() {
            Ok(count) => *put += count as usize,
            Err(Closed) => return Err(PutErrorReason::Closed),
        }
        reached(Instant::Published);
        written
    }

    fn write_parts(
        &self,
        writer: &mut Writer<'_>,
        parts: &mut [Part],
        bytes: &[u8],
    ) -> Result<Attempt, PutErrorReason> {
        for part in parts {
            match part {
                Part::Bytes(range) => {
                    if !writer.write(Kind::Message, &bytes[range.clone()])? {
                        return Ok(Attempt::NoRoom);
                    }
                }
                Part::Message(message) => {
                    if !writer.has_room(size_of::<u64>())? {
                        return Ok(Attempt::NoRoom);
                    }
                    let Some(taken) = message.take() else { continue };
                    let tag = self.tag();
                    if let Err(error) = self.lane_in.try_send(LaneMessage { tag, message: *taken }) {
                        *message = Some(Box::new(error.value.message));
                        return match error.reason {
                            SendErrorReason::Full | SendErrorReason::TimedOut => Ok(Attempt::LaneFull),
                            SendErrorReason::Encode(error) => Err(PutErrorReason::Encode(error)),
                            SendErrorReason::Io(error) => Err(PutErrorReason::Io(error)),
                            // This process has a receiver itself.
                            _ => Err(PutErrorReason::Damaged("its lane is shut down")),
                        };
                    }
                    reached(Instant::Sent);
                    writer.write(Kind::Lane, &tag.to_ne_bytes())?;
                }
                Part::Failed(_) => {}
            }
        }
        Ok(Attempt::Done)
    }

    /// Waits until there may be room for the part `put`, for a while.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "it is one loop with `put_by`, apart because it is cold")]
    fn wait_for_room(
        &self,
        batch: &mut Batch,
        put: usize,
        why: Attempt,
        deadline: Deadline,
        own: usize,
        wait: &mut Wait<'_>,
        patience: &mut Option<Deadline>,
    ) -> Result<(), PutErrorReason> {
        let indices = &self.head().indices;
        if why == Attempt::LaneFull && self.tidy_lane(Deadline::PASSED) {
            return Ok(());
        }
        let late = deadline.has_passed();
        let length = batch.parts.get(put).map_or(0, Part::length_in_ring);
        if !late && !wait.sleeps() {
            // The lock is not needed to look.
            wait.look(|| self.has_room(length));
            return Ok(());
        }
        // What a put waits for that found others busy is not a consumer.
        if why != Attempt::Busy && self.is_gone(Side::Consumers, own).map_err(PutErrorReason::Io)? {
            return Err(PutErrorReason::Disconnected);
        }
        if late {
            return Err(if deadline == Deadline::PASSED { PutErrorReason::Full } else { PutErrorReason::TimedOut });
        }
        if why == Attempt::LaneFull {
            let left = deadline.left().map_or(LANE_RECHECK, |left| left.min(LANE_RECHECK));
            let writable = raw::writable(self.lane_in.as_fd(), raw::Deadline::after(left));
            return writable.map(drop).map_err(PutErrorReason::Io);
        }
        let patience = *patience.get_or_insert_with(|| Deadline::after(LONG_WAIT));
        if length > self.size() / 16 && patience.has_passed() {
            if let Some(Part::Bytes(range)) = batch.parts.get(put) {
                let message = Message::from_encoded(batch.bytes[range.clone()].to_vec());
                batch.parts[put] = Part::Message(Some(Box::new(message)));
                return Ok(());
            }
        }
        if self.put_yields.is_due() {
            yield_now();
            // Room for several such messages.
            self.put_yields.note(self.has_room((8 * length).min(self.size() / 4)));
            if self.has_room(length) {
                return Ok(());
            }
        }
        let ready =
            || indices.tail().is_closed() || self.head().no_consumers.load(Ordering::SeqCst) || self.has_room(length);
        indices.space.sleep(ready, deadline);
        Ok(())
    }

    /// Tells whether there is room in the ring, as far as can be told without being the producer.
    fn has_room(&self, length: usize) -> bool {
        Writer::new(self.ring(), self.head().indices.head()).has_room(length).unwrap_or(true)
    }

    /// Tells whether there is no room for another small message.
    pub(crate) fn is_full(&self) -> bool {
        !self.has_room(size_of::<u64>())
    }

    /// Takes out of the lane what dead processes have left in it, if that is all there is, and
    /// tells whether there was any.
    #[cold]
    fn tidy_lane(&self, deadline: Deadline) -> bool {
        if self.purpose == Purpose::Ring {
            // Its two ends have no locks, and nobody takes the place of one that died.
            return false;
        }
        let head = self.head();
        let Ok(Some(_producer)) = lock(&head.producer.0, deadline) else { return false };
        let Ok(Some(_consumer)) = lock(&head.consumer.0, deadline) else { return false };
        let is_empty = head.indices.tail().units_since(head.indices.head()) == 0;
        is_empty && self.discard_lane()
    }

    /// Takes out of the lane all that is in it, and tells whether there was any.
    fn discard_lane(&self) -> bool {
        // A process that is out of order could fill it as fast as this empties it.
        let found = (0..MOST_IN_LANE).map(|_| self.lane_out.try_recv());
        found.take_while(|found| matches!(found, Ok(Some(_)) | Err(RecvError::Decode(_)))).count() > 0
    }

    /// Moves between one message and `most` into `batch`, waiting for the first one; `false` if
    /// none came in time. `own` is how many producers the caller is.
    pub(crate) fn get(&self, batch: &mut Batch, most: usize, deadline: Deadline, own: usize) -> Result<bool, GetError> {
        let got = self.get_by(deadline, own, || {
            let Some(mut seen) = lock(&self.head().consumer.0, deadline).map_err(GetError::Io)? else {
                return Ok(Got::Busy);
            };
            let mut reader = Reader::new(self.ring(), Index::from_bits(*seen));
            let got = match reader.find()? {
                Found::Closed => {
                    // Nothing is published any more.
                    self.discard_lane();
                    Err(GetError::Closed)
                }
                Found::Empty => Ok(Got::Nothing),
                Found::Record(_) => self.read(&mut reader, batch, most).map(Got::Some),
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
        let mut wait = self.get_spins.wait(deadline != Deadline::PASSED);
        let (mut alone, mut has_slept) = (false, false);
        loop {
            match attempt()? {
                Got::Some(got) => {
                    wait.found();
                    return Ok(Some(got));
                }
                // Nobody was there to put anything before this look.
                Got::Nothing if alone => {
                    self.tidy_lane(Deadline::PASSED);
                    return Err(GetError::Disconnected);
                }
                Got::Nothing => {
                    let sleeps = wait.sleeps() || deadline.has_passed();
                    alone = sleeps && self.is_gone(Side::Producers, own).map_err(GetError::Io)?;
                    if has_slept && !alone {
                        self.tidy_lane(Deadline::PASSED);
                    }
                }
                Got::Busy => {}
            }
            if alone {
                continue;
            }
            has_slept = wait.sleeps();
            if !self.wait_for_item(deadline, &mut wait) {
                return Ok(None);
            }
        }
    }

    /// Waits until there may be a message, for a while; `false` once the deadline has passed.
    #[cold]
    fn wait_for_item(&self, deadline: Deadline, wait: &mut Wait<'_>) -> bool {
        if deadline.has_passed() {
            return false;
        }
        if wait.sleeps() {
            if self.get_yields.is_due() {
                yield_now();
                let found = self.len();
                self.get_yields.note(found > 1);
                if found > 0 {
                    return true;
                }
            }
            let ready = || self.is_readable() || self.head().no_producers.load(Ordering::SeqCst);
            self.head().indices.items.sleep(ready, deadline);
            return true;
        }
        // The lock is not needed to look.
        wait.look(|| self.is_readable());
        true
    }

    /// Moves the messages that are there into `batch`, `most` at most.
    pub(crate) fn read(&self, reader: &mut Reader<'_>, batch: &mut Batch, most: usize) -> Result<(), GetError> {
        while batch.parts.len() < most && batch.bytes.len() <= self.most_inline() {
            let record = match reader.find() {
                Ok(Found::Record(record)) => record,
                Ok(Found::Empty | Found::Closed) => break,
                Err(Damaged(what)) if batch.parts.is_empty() => return Err(GetError::Damaged(what)),
                Err(_) => break,
            };
            let start = batch.bytes.len();
            reader.copy(&record, &mut batch.bytes);
            reached(Instant::Copied);
            reader.pass(&record);
            if record.kind == Kind::Message {
                batch.parts.push(Part::Bytes(start..batch.bytes.len()));
                continue;
            }
            // The record goes first: should this process die now, the message in the lane is passed
            // over.
            self.take(reader);
            let tag = batch.bytes[start..].try_into().map(u64::from_ne_bytes);
            batch.bytes.truncate(start);
            batch.parts.push(match tag {
                Ok(tag) => self.receive(tag),
                Err(_) => Part::Failed(Failure::Io(invalid("a record has no tag"))),
            });
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

    /// Receives the message with that tag from the lane.
    fn receive(&self, tag: u64) -> Part {
        for _ in 0..MOST_IN_LANE {
            return match self.lane_out.try_recv() {
                Ok(Some(found)) if found.tag == tag => {
                    reached(Instant::Received);
                    Part::Message(Some(Box::new(found.message)))
                }
                // Its producer or its consumer died.
                Ok(Some(_)) => continue,
                Ok(None) => break,
                // Hardly ever another one than ours.
                Err(RecvError::Decode(error)) => Part::Failed(Failure::Decode(error)),
                Err(RecvError::Io(error)) => Part::Failed(Failure::Io(error)),
                Err(error) => Part::Failed(Failure::Io(io::Error::other(error))),
            };
        }
        Part::Failed(Failure::Io(invalid("another process has taken the descriptors of the value")))
    }

    /// Announces a waiter for messages, and returns the descriptor to wait for. It is readable if
    /// there are some, or will be none.
    pub(crate) fn watch_items(&self, own: usize) -> io::Result<&PollableFd> {
        if self.items_event.begin()? {
            self.tidy_lane(Deadline::PASSED);
        }
        self.head().indices.items.watch();
        if self.is_readable() || self.is_gone(Side::Producers, own)? {
            self.notify_items();
        }
        self.items_event.pollable()
    }

    /// Tells whether there is a message, or the end.
    fn is_readable(&self) -> bool {
        let indices = &self.head().indices;
        let tail = indices.tail();
        tail.is_closed() || tail.units_since(indices.head()) != 0
    }

    /// Announces a waiter for space, and returns the descriptor to wait for. It is readable if
    /// there may be some for `part`, or for a small message.
    pub(crate) fn watch_space(&self, part: Option<&Part>, own: usize) -> io::Result<&PollableFd> {
        let head = self.head();
        self.space_event.begin()?;
        head.indices.space.watch();
        let mut writer = Writer::new(self.ring(), head.indices.head());
        let mut ready = writer.has_room(part.map_or(0, Part::length_in_ring)).unwrap_or(true);
        if let Some(Part::Message(_)) = part {
            // What makes room in the lane is a get.
            ready &= raw::writable(self.lane_in.as_fd(), raw::Deadline::PASSED)?;
        }
        if ready || self.is_closed() || self.is_gone(Side::Consumers, own)? {
            self.notify_space();
        }
        self.space_event.pollable()
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Part {
    /// How many bytes it takes in the ring, without the header.
    pub(crate) fn length_in_ring(&self) -> usize {
        match self {
            Self::Bytes(range) => range.len(),
            Self::Message(_) | Self::Failed(_) => size_of::<u64>(),
        }
    }
}

impl From<Damaged> for GetError {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

impl From<Damaged> for PutErrorReason {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

/// Takes the lock of a side; `None` if others had it until the deadline.
#[inline]
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
