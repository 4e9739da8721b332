//! Waiting for room, and for messages.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::thread::yield_now;
use std::time::Duration;

use mp_core::raw::{self, Message, PollableFd, Wait};
use mp_sync::futex::Deadline;

use super::Attempt;
use crate::batch::{Batch, Part};
use crate::error::{GetError, PutErrorReason};
use crate::memory::{Memory, Side};
use crate::protocol::access::Writer;
use crate::protocol::index::Index;

/// How long a wait for the lane lasts before it looks at the queue again.
const LANE_RECHECK: Duration = Duration::from_millis(10);

/// How long a long message waits for room in the ring.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// A put that waits.
pub(super) struct ForRoom<'a> {
    pub(super) wait: Wait<'a>,
    pub(super) deadline: Deadline,
    /// How many consumers the caller is.
    own: usize,
    /// When a long message stops waiting for room in the ring.
    patience: Option<Deadline>,
    /// What the consumers had taken when the thread last slept.
    slept_at: Option<Index>,
    /// It has emptied the lane after the deadline.
    has_tidied: bool,
}

/// A get that waits.
pub(super) struct ForItem<'a> {
    pub(super) wait: Wait<'a>,
    pub(super) deadline: Deadline,
    /// How many producers the caller is.
    own: usize,
    has_slept: bool,
    /// No producer existed before the last attempt.
    alone: bool,
}

impl Memory {
    #[inline]
    pub(super) fn for_room(&self, deadline: Deadline, own: usize) -> ForRoom<'_> {
        let wait = self.put_spins.wait(deadline != Deadline::PASSED);
        ForRoom { wait, deadline, own, patience: None, slept_at: None, has_tidied: false }
    }

    /// Waits until there may be room for the first of `parts`, for a while. `why` there was none.
    #[cold]
    pub(super) fn wait_for_room(
        &self,
        waiting: &mut ForRoom<'_>,
        why: Attempt,
        batch: &mut Batch,
        put: usize,
    ) -> Result<(), PutErrorReason> {
        let indices = &self.head().indices;
        let late = waiting.deadline.has_passed();
        if why == Attempt::LaneFull && !waiting.has_tidied && self.tidy_lane(Deadline::PASSED) == Some(true) {
            // Another process could fill it again and again.
            waiting.has_tidied = late;
            return Ok(());
        }
        let length = batch.parts.get(put).map_or(0, Part::length_in_ring);
        if !late && !waiting.wait.sleeps() {
            // The lock is not needed to look.
            waiting.wait.look(|| self.has_room(length));
            return Ok(());
        }
        let head = indices.head();
        if waiting.slept_at.is_some_and(|before| before != head) && !self.is_full() {
            // It was woken for room that is too small. Others may need less.
            self.notify_space();
        }
        // What a put waits for that found others busy is not a consumer.
        let asks = why != Attempt::Busy && (late || waiting.slept_at.is_some() || self.has_news_of(Side::Consumers));
        if asks && self.is_gone(Side::Consumers, waiting.own).map_err(PutErrorReason::Io)? {
            return Err(PutErrorReason::Disconnected);
        }
        if late {
            let is_try = waiting.deadline == Deadline::PASSED;
            return Err(if is_try { PutErrorReason::Full } else { PutErrorReason::TimedOut });
        }
        waiting.slept_at = Some(head);
        if why == Attempt::LaneFull {
            let left = waiting.deadline.left().map_or(LANE_RECHECK, |left| left.min(LANE_RECHECK));
            let writable = raw::writable(self.lane_in.as_fd(), raw::Deadline::after(left));
            return writable.map(drop).map_err(PutErrorReason::Io);
        }
        let patience = *waiting.patience.get_or_insert_with(|| Deadline::after(LONG_WAIT));
        if length > self.size() / 16 && patience.has_passed() {
            if let Some(Part::Bytes(length)) = batch.parts.get(put) {
                let message = Message::from_encoded(batch.bytes[batch.start..][..*length].to_vec());
                batch.start += length;
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
        let has_changed = || {
            let is_over = indices.is_closed() || self.head().no_consumers.load(Ordering::SeqCst);
            is_over || self.has_news_of(Side::Consumers) || self.has_room(length)
        };
        indices.space.sleep(has_changed, waiting.deadline);
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

    #[inline]
    pub(super) fn for_item(&self, deadline: Deadline, own: usize) -> ForItem<'_> {
        let wait = self.get_spins.wait(deadline != Deadline::PASSED);
        ForItem { wait, deadline, own, has_slept: false, alone: false }
    }

    /// Waits until there may be a message, for a while; `false` once the deadline has passed.
    /// `looked` says that there was none, not only that others were busy.
    #[cold]
    pub(super) fn wait_for_item(&self, waiting: &mut ForItem<'_>, looked: bool) -> Result<bool, GetError> {
        let late = waiting.deadline.has_passed();
        let sleeps = waiting.wait.sleeps();
        if looked && self.is_closed() {
            // After the deadline this waits for a producer that is in the middle of a put, but not
            // for another one.
            let at_end = self.tidy_lane(waiting.deadline).is_some();
            return if at_end { Err(GetError::Closed) } else { Ok(!late) };
        }
        if looked {
            if waiting.has_slept || waiting.alone {
                self.tidy_lane(Deadline::PASSED);
            }
            if waiting.alone {
                // Nobody was there to put anything before the last look.
                return Err(GetError::Disconnected);
            }
            let asks = late || (sleeps && (waiting.has_slept || self.has_news_of(Side::Producers)));
            waiting.alone = asks && self.is_gone(Side::Producers, waiting.own).map_err(GetError::Io)?;
            if waiting.alone {
                return Ok(true);
            }
        }
        if late {
            return Ok(false);
        }
        if !sleeps {
            // The lock is not needed to look.
            waiting.wait.look(|| self.is_readable());
            return Ok(true);
        }
        waiting.has_slept = true;
        if self.get_yields.is_due() {
            yield_now();
            let found = self.len();
            self.get_yields.note(found > 1);
            if found > 0 {
                return Ok(true);
            }
        }
        let has_changed = || {
            let is_over = self.head().no_producers.load(Ordering::SeqCst);
            is_over || self.has_news_of(Side::Producers) || self.is_readable()
        };
        self.head().indices.items.sleep(has_changed, waiting.deadline);
        Ok(true)
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
    pub(super) fn is_readable(&self) -> bool {
        let indices = &self.head().indices;
        indices.is_closed() || indices.tail().units_since(indices.head()) != 0
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
