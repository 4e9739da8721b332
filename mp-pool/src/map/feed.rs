//! Reading the items of a map ahead of its values, as far as the window goes.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Poll, Waker};

use mp_core::ProcessFn;
use mp_core::raw::{Deadline, Message, Within};
use serde::Serialize;

use crate::batch::{Batch, Delivery, Ends};
use crate::chunk::{Calls, Chunk, Function, Sink};
use crate::error::{ARGUMENTS, TaskError};
use crate::pool::Pool;
use crate::scheduler::SLICE;

/// How many items for each worker are read ahead of the values, at least.
const LEAST_AHEAD: usize = 4;

/// How many are at most, for each worker, and how many bytes they take.
const MOST_AHEAD: usize = 16 << 10;
const MOST_BYTES_AHEAD: usize = 1 << 20;

/// How many items are encoded together at most, how many bytes they take, and how many of them have
/// messages of their own.
const MOST_TOGETHER: u64 = 4 << 10;
const MOST_BYTES_TOGETHER: usize = 64 << 10;
const MOST_MESSAGES_TOGETHER: usize = 4;

/// Reads items, sends them to the pool and takes what comes back.
pub(super) struct Feed<'pool, F, Items: Iterator> {
    pool: &'pool Pool,
    items: Fuse<Items>,
    function: Arc<Function>,
    batch: Arc<Batch>,
    /// What has come back and was not taken.
    arrived: VecDeque<Delivery>,
    /// What was encoded and not submitted: the first one's place, and the calls.
    encoded: (usize, Calls),
    /// How many items were read, whether they could be encoded or not.
    read: usize,
    /// How many were submitted, or failed, and did not come back.
    pub(super) under_way: usize,
    /// How many bytes there are to an item, about.
    size: usize,
    /// How many are read ahead, if that was said.
    pub(super) window: Option<usize>,
    /// How many values came back and wait for those before them.
    pub(super) kept: usize,
    /// The pool was found closed; reading more items would be for nothing.
    closed: bool,
    of: PhantomData<fn() -> F>,
}

impl<'pool, F: ProcessFn, Items: Iterator<Item: Serialize>> Feed<'pool, F, Items> {
    pub(super) fn new(pool: &'pool Pool, items: Items) -> Self {
        Self {
            pool,
            items: items.fuse(),
            function: pool.scheduler().function::<F>(),
            batch: Arc::new(Batch::default()),
            arrived: VecDeque::new(),
            encoded: Default::default(),
            read: 0,
            under_way: 0,
            size: 1,
            kept: 0,
            window: None,
            closed: false,
            of: PhantomData,
        }
    }

    /// How many items may be under way, and how many are encoded together.
    fn plan(&self) -> (usize, usize) {
        let together = self.function.estimate().map_or(1, |estimate| SLICE.as_nanos() as u64 / estimate);
        let together = (together.clamp(1, MOST_TOGETHER) as usize).min(MOST_BYTES_TOGETHER / self.size).max(1);
        let ahead = (LEAST_AHEAD * together).min(MOST_AHEAD).min(MOST_BYTES_AHEAD / self.size).max(LEAST_AHEAD);
        match self.window {
            None => (ahead * self.pool.workers(), together),
            Some(window) => (window, together.min(window / LEAST_AHEAD).max(1)),
        }
    }

    /// Reads items as far ahead as the window goes. The caller still has `left` values that came
    /// back.
    pub(super) fn read_ahead(&mut self, left: usize) {
        if self.closed {
            return;
        }
        let (window, together) = self.plan();
        while self.under_way + self.kept + left <= window.saturating_sub(together) {
            let mut is_over = false;
            while (self.encoded.1.count() as usize) < together
                && self.encoded.1.length() < MOST_BYTES_TOGETHER
                && self.encoded.1.messages() < MOST_MESSAGES_TOGETHER
            {
                let Some(item) = self.items.next() else {
                    is_over = true;
                    break;
                };
                self.encode(&item);
            }
            self.submit();
            if is_over {
                return;
            }
        }
    }

    fn encode(&mut self, item: &Items::Item) {
        let index = self.read;
        self.read += 1;
        let (first, calls) = &mut self.encoded;
        if *first + calls.count() as usize != index {
            // Encoding an item runs code of the user's, and that has panicked.
            self.submit();
        }
        let (first, calls) = &mut self.encoded;
        if calls.count() == 0 {
            *first = index;
        }
        let large = Some(self.pool.scheduler().large());
        if let Err(error) = calls.add(|bytes, most| Message::append(item, bytes, most, large)) {
            self.submit();
            self.under_way += 1;
            let error = error.within(&format!("`{}`", F::NAME)).within(ARGUMENTS);
            let ends = Ends::Failed(TaskError::Encode(error));
            self.arrived.push_back(Delivery { first: index, count: 1, ends });
        }
    }

    fn submit(&mut self) {
        if self.encoded.1.count() == 0 {
            return;
        }
        let next = Calls::as_large_as(&self.encoded.1);
        let (first, calls) = mem::replace(&mut self.encoded, (0, next));
        self.under_way += calls.count() as usize;
        self.size = (calls.length() / calls.count() as usize).max(1);
        let scheduler = self.pool.scheduler();
        let sink = Sink::Batch(Arc::clone(&self.batch), first);
        scheduler.submit(Arc::new(Chunk::new(Arc::clone(&self.function), scheduler.terms(), sink, calls)));
    }

    /// Takes what has come back; `None` if nothing will.
    pub(super) fn next(&mut self) -> Option<Delivery> {
        if let Some(delivery) = self.arrived.pop_front() {
            return Some(self.note(delivery));
        }
        self.submit();
        if self.under_way == 0 {
            return None;
        }
        let scheduler = self.pool.scheduler();
        if !scheduler.is_copy() {
            scheduler.look_while(Deadline::NEVER, || !self.batch.has_some());
        } else if !self.batch.has_some() {
            // What was submitted before this process was forked is for the other one.
            self.under_way = 0;
            return None;
        }
        self.arrived = self.batch.take();
        self.arrived.pop_front().map(|delivery| self.note(delivery))
    }

    /// The same without waiting: the task is woken when something has come.
    #[cfg(feature = "async")]
    pub(super) fn poll_next(&mut self, waker: &Waker) -> Poll<Option<Delivery>> {
        let nothing_will_come = self.arrived.is_empty() && {
            self.submit();
            self.under_way == 0 || self.pool.scheduler().is_copy()
        };
        if nothing_will_come {
            return Poll::Ready(None);
        }
        if self.arrived.is_empty() {
            match self.batch.poll(waker.clone()) {
                Some(arrived) => self.arrived = arrived,
                None => return Poll::Pending,
            }
        }
        Poll::Ready(self.arrived.pop_front().map(|delivery| self.note(delivery)))
    }

    fn note(&mut self, delivery: Delivery) -> Delivery {
        self.under_way -= delivery.count;
        if matches!(delivery.ends, Ends::Failed(TaskError::PoolClosed | TaskError::Initializer(_) | TaskError::Forked))
        {
            self.closed = true;
        }
        delivery
    }

    /// How many values there will be from here on, but for `kept` ones that came back.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let pending = self.under_way + self.encoded.1.count() as usize;
        if self.closed {
            return (pending, Some(pending));
        }
        let (least, most) = self.items.size_hint();
        (least.saturating_add(pending), most.and_then(|most| most.checked_add(pending)))
    }
}

impl<F, Items: Iterator> Drop for Feed<'_, F, Items> {
    fn drop(&mut self) {
        if self.under_way > 0 {
            self.pool.scheduler().forget(&self.batch);
        }
    }
}
