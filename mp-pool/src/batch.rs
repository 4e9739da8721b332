//! How the calls of one map ended, for the thread that wants to know.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use mp_core::raw::{CallError, Outcome, decode_plain};
use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::later::{Later, Sleeper};
use crate::packed::{Header, Kind};

/// What the scheduler puts results into, and the thread that maps takes them from.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    arrived: Mutex<Arrived>,
    some_arrived: AtomicBool,
    forgotten: AtomicBool,
}

#[derive(Debug, Default)]
struct Arrived {
    deliveries: VecDeque<Delivery>,
    waker: Option<Waker>,
}

/// How some calls that follow each other ended.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The place of the first in the map.
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) ends: Ends,
}

#[derive(Debug)]
pub(crate) enum Ends {
    /// Entries from a worker, and what is announced there.
    Entries(Vec<u8>, VecDeque<Result<Outcome, TaskError>>),
    /// All of them failed with this.
    Failed(TaskError),
}

impl Batch {
    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        // Nothing panics under the lock.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits for it is left to be woken by the caller.
    pub(crate) fn deliver(&self, delivery: Delivery) -> Option<Later> {
        let mut arrived = self.arrived();
        arrived.deliveries.push_back(delivery);
        let waker = arrived.waker.take();
        drop(arrived);
        self.some_arrived.store(true, Ordering::Release);
        waker.map(Later::Wake)
    }

    /// Whether [`take`](Self::take) does not wait.
    pub(crate) fn has_some(&self) -> bool {
        self.some_arrived.load(Ordering::Acquire)
    }

    /// Takes what has arrived, and waits for it. The caller knows that something is coming.
    pub(crate) fn take(&self) -> VecDeque<Delivery> {
        loop {
            let sleeper = Arc::new(Sleeper::default());
            if let Some(deliveries) = self.poll(Arc::clone(&sleeper).into()) {
                return deliveries;
            }
            sleeper.sleep(None);
        }
    }

    /// Takes what has arrived, or has `waker` woken when something has.
    pub(crate) fn poll(&self, waker: Waker) -> Option<VecDeque<Delivery>> {
        let mut arrived = self.arrived();
        if arrived.deliveries.is_empty() {
            let before = arrived.waker.replace(waker);
            // Code of others is not run under the lock.
            drop(arrived);
            drop(before);
            return None;
        }
        self.some_arrived.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut arrived.deliveries))
    }

    /// The map was dropped: the rest is not wanted.
    pub(crate) fn forget(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }
}

/// Decodes what entries say, one call after another.
pub(crate) struct Decoder {
    next: usize,
    end: usize,
    at: usize,
    ends: Ends,
}

impl Decoder {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { next: delivery.first, end: delivery.first + delivery.count, at: 0, ends: delivery.ends }
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.end - self.next
    }

    /// The place of the next one, and how it ended.
    #[inline]
    pub(crate) fn next<R: DeserializeOwned>(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let result = match &mut self.ends {
            Ends::Failed(error) => Err(error.clone()),
            Ends::Entries(entries, outcomes) => loop {
                // The scheduler has looked at every header.
                let Some(header) = Header::at(&entries[self.at..]) else {
                    break Err(TaskError::PoolClosed);
                };
                let place = header.bytes(self.at);
                self.at += header.whole();
                match header.kind {
                    Kind::Value => break decode_value(&mut entries[place]),
                    Kind::Time | Kind::Filler => {}
                    kind => break decode_other(kind, &mut entries[place], outcomes),
                }
            },
        };
        Some((index, result))
    }
}

#[inline]
fn decode_value<R: DeserializeOwned>(bytes: &mut [u8]) -> Result<R, TaskError> {
    decode_plain(bytes).map_err(|error| TaskError::from(CallError::UndecodableResult(error)))
}

#[cold]
fn decode_other<R: DeserializeOwned>(
    kind: Kind,
    bytes: &mut [u8],
    outcomes: &mut VecDeque<Result<Outcome, TaskError>>,
) -> Result<R, TaskError> {
    match kind {
        Kind::Message => outcomes.pop_front().unwrap_or(Err(TaskError::PoolClosed))?.decode().map_err(TaskError::from),
        Kind::Outcome => match decode_plain::<Outcome>(bytes) {
            Ok(outcome) => outcome.decode().map_err(TaskError::from),
            Err(error) => Err(CallError::UndecodableResult(error).into()),
        },
        _ => Err(TaskError::NotSent(String::from_utf8_lossy(bytes).into_owned())),
    }
}
