//! Moving batches into the ring and out of it, with the waits in between.
//!
//! A thread that puts takes the producers' lock, and is the ring's producer as long as it has it; a
//! thread that gets takes the consumers' lock. It keeps the lock while it waits for space or for a
//! message, so the others wait in the lock, in the order in which it lets them in, and nobody
//! passes a long message that waits for much space.
//!
//! 1. No code of the user's runs while a lock is held: values are encoded before, and decoded
//!    after.
//! 2. A lock whose owner died is consistent: what counts is `head` and `tail`, see `ring::index`.
//!    What a lock protects is a copy of the other side's index, which is checked before use.
//! 3. A message that holds descriptors, or is longer than half the ring, goes through the lane: a
//!    pipe of mp-core. It is sent there before its record is published, under the same lock, so the
//!    lane has the messages in the order of the records. One whose producer died in between has no
//!    record. One whose consumer died has none any longer. Both are passed over by their tags.
//! 4. While the ring is empty and no consumer receives from the lane, all that is in the lane is
//!    such leftovers, but for what the one producer has sent and not published. So a producer that
//!    finds the lane full empties it then, and so does a consumer that waits, if it gets the
//!    producers' lock without waiting: it never waits for it, because producers may wait for it.
//! 5. Nothing is published once the ring is closed, so the consumer that finds its end empties the
//!    lane.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mp_core::raw;
use mp_core::{RecvError, SendErrorReason};
use mp_sync::futex::Deadline;
use mp_sync::{LockError, Mutex, MutexGuard};

use crate::batch::{Batch, Failure, Part};
use crate::error::{GetError, PutErrorReason};
use crate::memory::{LaneMessage, Memory, Side, clear};
use crate::ring::access::{Damaged, Found, HEADER, Kind, Reader, Record, Writer};
use crate::ring::index::{Closed, Index, Signal};

/// How long a call that does not wait does wait for another process that is in the middle of a put
/// or a get, which takes a microsecond unless that process is not given a processor.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long a wait for the lane lasts before it looks at the queue again.
const LANE_RECHECK: Duration = Duration::from_millis(10);

/// More messages than the lane can hold.
const MOST_IN_LANE: usize = 1 << 16;

/// What became of a part that was to be written.
enum Written {
    Yes,
    NoRoom,
    /// The ring has room, and the lane has none.
    LaneFull,
}

impl Memory {
    /// The longest message, in bytes, that goes into the ring. It fits into an empty one wherever
    /// the record begins.
    pub(crate) fn most_inline(&self) -> usize {
        self.size() / 2 - HEADER
    }

    /// Puts what is in `batch`, in order, and returns how many parts were put, with the reason why
    /// it is not all. `own` is how many consumers the caller is.
    pub(crate) fn put(&self, batch: &mut Batch, deadline: Deadline, own: usize) -> (usize, Result<(), PutErrorReason>) {
        let head = self.head();
        if let Err(reason) = self.check_put() {
            return (0, Err(reason));
        }
        let mut seen = match lock(&head.producer.0, &head.indices.space, deadline) {
            Ok(Some(seen)) => seen,
            Ok(None) => return (0, Err(late(deadline))),
            Err(error) => return (0, Err(PutErrorReason::Io(error))),
        };
        let mut writer = Writer::new(self.ring(), Index::from_bits(*seen));
        let (put, result) = self.put_alone(&mut writer, batch, deadline, own);
        *seen = writer.head().bits();
        drop(seen);
        if put > 0 {
            self.notify_items();
        }
        (put, result)
    }

    /// The reasons why nothing can be put that can be seen without waiting.
    #[inline]
    pub(crate) fn check_put(&self) -> Result<(), PutErrorReason> {
        if self.is_closed() {
            return Err(PutErrorReason::Closed);
        }
        if self.head().no_consumers.load(Ordering::Relaxed) {
            return Err(PutErrorReason::Disconnected);
        }
        Ok(())
    }

    /// The same for the only producer, who owes a [`notify_items`](Self::notify_items) if anything
    /// was put.
    #[inline]
    pub(crate) fn put_alone(
        &self,
        writer: &mut Writer<'_>,
        batch: &mut Batch,
        deadline: Deadline,
        own: usize,
    ) -> (usize, Result<(), PutErrorReason>) {
        let mut put = 0;
        let mut wait = self.put_spins.wait(deadline != Deadline::PASSED);
        let mut has_emptied = false;
        let result = loop {
            let written = self.write(writer, &mut batch.parts[put..], &batch.bytes);
            // What was written is published before anything else, so that those who wait for it
            // can take it while this waits for room.
            match writer.publish() {
                Ok(count) => put += count as usize,
                Err(Closed) => {
                    self.empty_lane();
                    break Err(PutErrorReason::Closed);
                }
            }
            match written {
                Err(reason) => break Err(reason),
                Ok(Written::Yes) => {
                    wait.found();
                    break Ok(());
                }
                Ok(Written::LaneFull) if !has_emptied && self.empty_lane() => has_emptied = true,
                Ok(_) if deadline.has_passed() => {
                    let gone = self.is_gone(Side::Consumers, own);
                    break Err(if gone.is_ok_and(|gone| gone) { PutErrorReason::Disconnected } else { late(deadline) });
                }
                Ok(_) if !wait.sleeps() => {
                    if put > 0 {
                        self.notify_items();
                    }
                    wait.in_vain();
                }
                Ok(why) => {
                    if put > 0 {
                        self.notify_items();
                    }
                    match self.is_gone(Side::Consumers, own) {
                        Ok(false) => {}
                        Ok(true) => break Err(PutErrorReason::Disconnected),
                        Err(error) => break Err(PutErrorReason::Io(error)),
                    }
                    let length = batch.parts[put..].first().map_or(0, Part::length_in_ring);
                    if let Err(reason) = self.wait_for_room(writer, &why, length, deadline) {
                        break Err(reason);
                    }
                    has_emptied = false;
                }
            }
        };
        (put, result)
    }

    /// Writes as many of `parts` as there is room for.
    fn write(&self, writer: &mut Writer<'_>, parts: &mut [Part], bytes: &[u8]) -> Result<Written, PutErrorReason> {
        for part in parts {
            match part {
                Part::Bytes(range) => {
                    if !writer.write(Kind::Message, &bytes[range.clone()])? {
                        return Ok(Written::NoRoom);
                    }
                }
                Part::Message(message) => {
                    if !writer.has_room(size_of::<u64>())? {
                        return Ok(Written::NoRoom);
                    }
                    let Some(taken) = message.take() else { continue };
                    let tag = self.tag();
                    if let Err(error) = self.lane_in.try_send(LaneMessage { tag, message: *taken }) {
                        *message = Some(Box::new(error.value.message));
                        return match error.reason {
                            SendErrorReason::Full | SendErrorReason::TimedOut => Ok(Written::LaneFull),
                            SendErrorReason::Encode(error) => Err(PutErrorReason::Encode(error)),
                            SendErrorReason::Io(error) => Err(PutErrorReason::Io(error)),
                            // This process has a receiver itself.
                            _ => Err(PutErrorReason::Damaged("its lane is shut down")),
                        };
                    }
                    writer.write(Kind::Lane, &tag.to_ne_bytes())?;
                }
                Part::Failed(_) => {}
            }
        }
        Ok(Written::Yes)
    }

    #[cold]
    fn wait_for_room(
        &self,
        writer: &mut Writer<'_>,
        why: &Written,
        length: usize,
        deadline: Deadline,
    ) -> Result<(), PutErrorReason> {
        let indices = &self.head().indices;
        if let Written::LaneFull = why {
            let left = deadline.left().map_or(LANE_RECHECK, |left| left.min(LANE_RECHECK));
            let writable = raw::writable(self.lane_in.as_fd(), raw::Deadline::after(left));
            return writable.map(drop).map_err(PutErrorReason::Io);
        }
        let ready = || {
            indices.tail().is_closed()
                || self.head().no_consumers.load(Ordering::SeqCst)
                || writer.has_room(length).unwrap_or(true)
        };
        indices.space.sleep(ready, deadline);
        Ok(())
    }

    /// Takes out of the lane what has no record, if that is all that there is, and tells whether
    /// there was any. The caller is the only producer, or the only consumer that has got the
    /// producers' lock as well.
    #[cold]
    fn empty_lane(&self) -> bool {
        let head = self.head();
        // In this order: a consumer says that it receives before it takes the record.
        let is_empty = head.indices.tail().units_since(head.indices.head()) == 0;
        is_empty && !head.is_receiving.load(Ordering::SeqCst) && self.discard_lane()
    }

    /// Takes out of the lane all that is in it, and tells whether there was any.
    fn discard_lane(&self) -> bool {
        // A process that is out of order could fill it as fast as this empties it.
        let found = (0..MOST_IN_LANE).map(|_| self.lane_out.try_recv());
        found.take_while(|found| matches!(found, Ok(Some(_)) | Err(RecvError::Decode(_)))).count() > 0
    }

    /// The same for a consumer that has waited in vain. What a dead producer left in the lane may
    /// hold a handle that others wait for, or that this consumer itself waits for.
    #[cold]
    fn tidy_lane(&self) {
        let producer = self.head().producer.0.try_lock();
        if !matches!(producer, Ok(None)) {
            self.empty_lane();
        }
    }

    /// Moves between one message and `most` into `batch`, waiting for the first one; `false` if
    /// none came in time. `own` is how many producers the caller is.
    pub(crate) fn get(&self, batch: &mut Batch, most: usize, deadline: Deadline, own: usize) -> Result<bool, GetError> {
        let head = self.head();
        let Some(mut seen) = lock(&head.consumer.0, &head.indices.items, deadline).map_err(GetError::Io)? else {
            return Ok(false);
        };
        if head.is_receiving.load(Ordering::Relaxed) {
            // It was the last owner of the lock, and died.
            head.is_receiving.store(false, Ordering::SeqCst);
        }
        let mut reader = Reader::new(self.ring(), Index::from_bits(*seen));
        let result = match self.wait_for_item(&mut reader, deadline, own, || self.tidy_lane()) {
            Ok(Some(_)) => self.read(&mut reader, batch, most).map(|()| true),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        *seen = reader.tail().bits();
        drop(seen);
        if !batch.parts.is_empty() {
            self.notify_space();
        }
        if head.indices.items.is_watched() && self.is_readable() {
            // Whoever was woken for what is left, or for the end, may have been this thread.
            self.notify_items();
        }
        result
    }

    /// Waits until there is a message, and returns its record; `None` if none came in time. The
    /// caller is the only consumer now, and counts as `own` producers. `tidy` is called after each
    /// sleep in vain.
    #[inline]
    pub(crate) fn wait_for_item(
        &self,
        reader: &mut Reader<'_>,
        deadline: Deadline,
        own: usize,
        tidy: impl Fn(),
    ) -> Result<Option<Record>, GetError> {
        let head = self.head();
        let mut wait = self.get_spins.wait(deadline != Deadline::PASSED);
        let (mut alone, mut has_slept) = (false, false);
        loop {
            match reader.find()? {
                Found::Closed => {
                    self.discard_lane();
                    return Err(GetError::Closed);
                }
                Found::Empty if alone => return Err(GetError::Disconnected),
                Found::Empty if has_slept => tidy(),
                Found::Empty => {}
                Found::Record(record) => {
                    wait.found();
                    return Ok(Some(record));
                }
            }
            let late = deadline.has_passed();
            if late || wait.sleeps() {
                // Nobody was there at that moment, so after another look it is certain that nothing
                // comes.
                alone = self.is_gone(Side::Producers, own).map_err(GetError::Io)?;
                if alone {
                    continue;
                }
            }
            if late {
                return Ok(None);
            }
            if !wait.sleeps() {
                wait.in_vain();
                continue;
            }
            let ready = || reader.is_ready() || self.head().no_producers.load(Ordering::SeqCst);
            head.indices.items.sleep(ready, deadline);
            has_slept = true;
        }
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
            reader.pass(&record);
            if record.kind == Kind::Message {
                batch.parts.push(Part::Bytes(start..batch.bytes.len()));
                continue;
            }
            // The record goes first: should this process die now, the message in the lane is passed
            // over.
            let is_receiving = &self.head().is_receiving;
            is_receiving.store(true, Ordering::SeqCst);
            self.take(reader);
            let tag = batch.bytes[start..].try_into().map(u64::from_ne_bytes);
            batch.bytes.truncate(start);
            batch.parts.push(match tag {
                Ok(tag) => self.receive(tag),
                Err(_) => Part::Failed(Failure::Io(invalid("a record has no tag"))),
            });
            is_receiving.store(false, Ordering::SeqCst);
        }
        self.take(reader);
        Ok(())
    }

    #[inline]
    fn take(&self, reader: &mut Reader<'_>) {
        if self.is_joinable {
            self.hold(reader.passed());
        }
        reader.take();
    }

    /// Receives the message with that tag from the lane.
    fn receive(&self, tag: u64) -> Part {
        for _ in 0..MOST_IN_LANE {
            return match self.lane_out.try_recv() {
                Ok(Some(found)) if found.tag == tag => Part::Message(Some(Box::new(found.message))),
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

    /// Announces a waiter for messages, and makes the eventfd readable if there are some, or will
    /// be none.
    pub(crate) fn watch_items(&self, own: usize) -> io::Result<()> {
        let head = self.head();
        clear(&self.items_event);
        head.indices.items.watch();
        if self.is_readable() || self.is_gone(Side::Producers, own)? {
            self.notify_items();
        }
        Ok(())
    }

    /// Tells whether there is a message, or the end.
    fn is_readable(&self) -> bool {
        let indices = &self.head().indices;
        let tail = indices.tail();
        tail.is_closed() || tail.units_since(indices.head()) != 0
    }

    /// Announces a waiter for space, and makes the eventfd readable if there may be some for a
    /// message of `length` bytes.
    pub(crate) fn watch_space(&self, length: usize, own: usize) -> io::Result<()> {
        let head = self.head();
        clear(&self.space_event);
        head.indices.space.watch();
        let mut writer = Writer::new(self.ring(), head.indices.head());
        let ready = head.indices.tail().is_closed() || writer.has_room(length).unwrap_or(true);
        if ready || self.is_gone(Side::Consumers, own)? {
            self.notify_space();
        }
        Ok(())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Why nothing was put before the deadline.
fn late(deadline: Deadline) -> PutErrorReason {
    if deadline == Deadline::PASSED { PutErrorReason::Full } else { PutErrorReason::TimedOut }
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

/// Takes the lock of a side. `None` if the deadline passed, or would, because the lock's owner
/// sleeps at `signal`.
#[inline]
fn lock<'a>(mutex: &'a Mutex<u64>, signal: &Signal, deadline: Deadline) -> io::Result<Option<MutexGuard<'a, u64>>> {
    let taken = match mutex.lock_until(deadline) {
        Ok(None) if deadline == Deadline::PASSED && !signal.has_sleeper() => mutex.lock_timeout(PATIENCE),
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
