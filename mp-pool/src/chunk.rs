//! Calls of one function that were encoded together, and parts of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mp_core::EncodeError;
use mp_core::raw::Message;

use crate::batch::Batch;
use crate::packed::{self, Kind};
use crate::slot::Slot;

/// A function, and what the pool has learned about it.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// What a worker finds it by.
    pub(crate) key: &'static str,
    /// Which function of the pool it is.
    pub(crate) id: usize,
    /// How many of its calls were submitted as tasks.
    submitted: AtomicU64,
    /// How many nanoseconds a call takes; 0 if that is not known.
    estimate: AtomicU64,
}

impl Function {
    pub(crate) fn new(name: &'static str, key: &'static str, id: usize) -> Self {
        Self { name, key, id, submitted: AtomicU64::new(0), estimate: AtomicU64::new(0) }
    }

    /// The index of the next task.
    pub(crate) fn next_index(&self) -> u64 {
        self.submitted.fetch_add(1, Ordering::Relaxed)
    }

    /// How many nanoseconds a call takes, at least 1.
    pub(crate) fn estimate(&self) -> Option<u64> {
        Some(self.estimate.load(Ordering::Relaxed)).filter(|estimate| *estimate > 0)
    }

    /// Notes how long some calls took. Many count for more than one.
    pub(crate) fn note(&self, calls: u64, nanoseconds: u64) {
        let mean = (nanoseconds.min(MOST_NANOSECONDS) / calls.max(1)).max(1);
        let estimate = match self.estimate() {
            None => mean,
            Some(before) if calls >= 8 => (before + 3 * mean) / 4,
            Some(before) => (before + mean) / 2,
        };
        self.estimate.store(estimate.max(1), Ordering::Relaxed);
    }
}

/// Nothing is planned for longer than an hour.
const MOST_NANOSECONDS: u64 = 3_600_000_000_000;

/// What holds for the calls of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i32,
    pub(crate) retries: u32,
}

/// Who wants to know how a call ended.
#[derive(Debug)]
pub(crate) enum Sink {
    /// The one call of its chunk is a task.
    Task(Arc<Slot>),
    /// The calls have these places in a map, from the first one's on.
    Batch(Arc<Batch>, usize),
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) function: Arc<Function>,
    pub(crate) terms: Terms,
    pub(crate) sink: Sink,
    calls: Calls,
}

/// Encoded arguments of calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    entries: Vec<u8>,
    /// Where the entries begin, from the second one on.
    starts: Vec<u32>,
    count: u32,
    /// Those whose entry says that it is a message.
    messages: Vec<(u32, Mutex<Option<Arc<Message>>>)>,
}

impl Calls {
    /// Makes room for as much as there is in another one.
    pub(crate) fn as_large_as(other: &Self) -> Self {
        let entries = Vec::with_capacity(other.entries.len());
        Self { entries, starts: Vec::with_capacity(other.starts.len()), ..Self::default() }
    }

    /// Adds a call, whose arguments are appended to the bytes or returned.
    pub(crate) fn add(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>, usize) -> Result<Option<Message>, EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.entries.len();
        let mut long = None;
        packed::append(&mut self.entries, |entries| {
            long = encode(entries, packed::MOST)?;
            Ok(if long.is_some() { Kind::Message } else { Kind::Value })
        })?;
        if let Some(message) = long {
            self.messages.push((self.count, Mutex::new(Some(Arc::new(message)))));
        }
        if self.count > 0 {
            self.starts.push(start as u32);
        }
        self.count += 1;
        Ok(())
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the entries take.
    pub(crate) fn length(&self) -> usize {
        self.entries.len()
    }

    /// How many of the calls have arguments that are not among the bytes.
    pub(crate) fn messages(&self) -> usize {
        self.messages.len()
    }

    fn start(&self, item: u32) -> usize {
        match item.checked_sub(1) {
            None => 0,
            Some(before) => self.starts.get(before as usize).map_or(self.entries.len(), |start| *start as usize),
        }
    }
}

/// What a message is for those who send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// Its arguments stand in its entry.
    Inline,
    /// They are a message, of which a copy can be kept.
    Message,
    /// They are a message with handles, or it was sent already. A second copy of a handle would
    /// keep what it belongs to open, so the call can be sent once.
    Handles,
}

impl Chunk {
    pub(crate) fn new(function: Arc<Function>, terms: Terms, sink: Sink, calls: Calls) -> Self {
        Self { function, terms, sink, calls }
    }

    pub(crate) fn whole(self: Arc<Self>) -> Run {
        let items = 0..self.calls.count;
        Run { chunk: self, items, attempts: 0 }
    }
}

/// Calls of a chunk that follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) items: Range<u32>,
    /// How many workers have died running it. Then it is one call.
    pub(crate) attempts: u32,
}

impl Run {
    pub(crate) fn len(&self) -> u32 {
        self.items.end - self.items.start
    }

    /// The index of the `nth` call.
    pub(crate) fn index(&self, nth: u32) -> u64 {
        match &self.chunk.sink {
            Sink::Task(slot) => slot.index(),
            Sink::Batch(_, first) => *first as u64 + u64::from(self.items.start + nth),
        }
    }

    /// Takes off the first `count` calls.
    pub(crate) fn split_off_front(&mut self, count: u32) -> Self {
        let middle = self.items.start + count;
        let front = Self { items: self.items.start..middle, ..self.clone() };
        self.items.start = middle;
        front
    }

    /// The entries of some of the calls, counted from the first one.
    pub(crate) fn entries(&self, calls: Range<u32>) -> &[u8] {
        let start = |call| self.chunk.calls.start(self.items.start + call);
        &self.chunk.calls.entries[start(calls.start)..start(calls.end)]
    }

    /// How many of the calls have entries that fit into `room` bytes, of those before the first one
    /// that is a message.
    pub(crate) fn fitting(&self, room: usize, most: u32) -> u32 {
        let calls = &self.chunk.calls;
        let mut end = self.items.end.min(self.items.start.saturating_add(most));
        if let Some((message, _)) = calls.messages.iter().find(|(item, _)| *item >= self.items.start) {
            end = end.min(*message);
        }
        let from = calls.start(self.items.start);
        let fits = |item: u32| calls.start(item + 1) - from <= room;
        // Most of the time all of them do.
        let (mut low, mut high) = (self.items.start, end);
        if high > low && fits(high - 1) {
            return high - low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - self.items.start
    }

    fn message_of_first(&self) -> Option<&Mutex<Option<Arc<Message>>>> {
        let messages = &self.chunk.calls.messages;
        let place = messages.binary_search_by_key(&self.items.start, |(item, _)| *item).ok()?;
        Some(&messages[place].1)
    }

    /// How many of the first `count` calls have arguments that are messages.
    pub(crate) fn messages(&self, count: u32) -> usize {
        let items = self.items.start..self.items.start + count;
        self.chunk.calls.messages.iter().filter(|(item, _)| items.contains(item)).count()
    }

    /// What the first call needs to be sent.
    pub(crate) fn cargo(&self) -> Cargo {
        let Some(message) = self.message_of_first() else { return Cargo::Inline };
        match &*message.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(message) if !message.has_descriptors() => Cargo::Message,
            _ => Cargo::Handles,
        }
    }

    /// The arguments of the first call. If they hold handles there is no copy left.
    pub(crate) fn take_message(&self) -> Option<Arc<Message>> {
        let mut message = self.message_of_first()?.lock().unwrap_or_else(PoisonError::into_inner);
        if message.as_ref()?.has_descriptors() { message.take() } else { message.clone() }
    }

    /// Puts the arguments back of a call that was not sent after all.
    pub(crate) fn put_back(&self, message: Arc<Message>) {
        if let Some(place) = self.message_of_first() {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        }
    }

    /// Whether the first call can still be sent to a worker.
    pub(crate) fn can_be_sent(&self) -> bool {
        let Some(message) = self.message_of_first() else { return true };
        message.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether its task has ended already, or its map was dropped.
    pub(crate) fn is_forgotten(&self) -> bool {
        match &self.chunk.sink {
            Sink::Task(slot) => slot.is_done(),
            Sink::Batch(batch, _) => batch.is_forgotten(),
        }
    }
}
