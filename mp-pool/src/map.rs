//! One function on many items.

use std::collections::VecDeque;
use std::fmt;
use std::iter::{Fuse, FusedIterator};
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll, Waker, ready};

use mp_core::ProcessFn;
use mp_core::raw::{Deadline, Message, Within};
use serde::Serialize;

use crate::batch::{Batch, Decoder, Delivery, Ends};
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

impl Pool {
    /// Runs `F` on each of `items` and returns the values in order:
    /// `pool.map::<add>([(1, 2), (3, 4)])`.
    ///
    /// An item is what `F` takes: the one parameter, or a tuple; a `String` where `F` takes a
    /// `&str`, and so on. Items are read as workers become free for them; only the values are all
    /// kept. Items that are short to run are sent to the workers many at a time, and each fails, is
    /// killed at its time limit or survives a crash by itself all the same.
    ///
    /// # Errors
    ///
    /// The error of the first item, in order, that has one. The others are run to the end all the
    /// same.
    pub fn map<F: ProcessFn>(&self, items: impl IntoIterator<Item = F::Args>) -> Result<Vec<F::Output>, TaskError> {
        in_order(Feed::<F, _>::new(self, items.into_iter()))
    }

    /// The same on items that are lent: `pool.map_ref::<add>(&pairs)`.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn length(text: &str) -> usize {
    ///     text.len()
    /// }
    ///
    /// let words = ["to".to_owned(), "be".to_owned(), "or not".to_owned()];
    /// assert_eq!(Pool::new(2)?.map_ref::<length>(&words)?, [2, 2, 6]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map_ref<'a, F: ProcessFn>(
        &self,
        items: impl IntoIterator<Item = &'a F::Args>,
    ) -> Result<Vec<F::Output>, TaskError> {
        in_order(Feed::<F, _>::new(self, items.into_iter()))
    }

    /// Runs `F` on each of `items` and gives the values in order, each as soon as it and all before
    /// it are there.
    ///
    /// It is lazy: see [`imap_unordered`](Self::imap_unordered).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn square(number: u64) -> u64 {
    ///     number * number
    /// }
    ///
    /// let pool = Pool::new(2)?;
    /// let squares: Result<Vec<_>, _> = pool.imap::<square>(1..).take(4).collect();
    /// assert_eq!(squares?, [1, 4, 9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn imap<F: ProcessFn>(
        &self,
        items: impl IntoIterator<Item = F::Args>,
    ) -> Imap<'_, F, impl Iterator<Item = F::Args>> {
        Imap { values: ImapUnordered::new(self, items.into_iter()), waiting: VecDeque::new(), next: 0 }
    }

    /// Runs `F` on each of `items` and gives each value as soon as it is there, with the index of
    /// its item.
    ///
    /// It is lazy: an item is read when a value is asked for, and only some for each worker ahead
    /// of it, so there may be more items than memory has room for. How many depends on how long
    /// they take: at least 4, at most 16,384, and 1 MiB; [`window`](ImapUnordered::window) sets the
    /// number. Dropping the iterator forgets the tasks that have not begun.
    ///
    /// Items are owned, as for [`map`](Self::map): a `String` where `F` takes a `&str`, a `Vec<T>`
    /// where it takes a `&[T]`.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn square(number: u64) -> u64 {
    ///     number * number
    /// }
    ///
    /// let pool = Pool::new(2)?;
    /// let mut sum = 0;
    /// for (_index, value) in pool.imap_unordered::<square>(1..=10) {
    ///     sum += value?;
    /// }
    /// assert_eq!(sum, 385);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn imap_unordered<F: ProcessFn>(
        &self,
        items: impl IntoIterator<Item = F::Args>,
    ) -> ImapUnordered<'_, F, impl Iterator<Item = F::Args>> {
        ImapUnordered::new(self, items.into_iter())
    }
}

/// Reads items, sends them to the pool and takes what comes back.
struct Feed<'pool, F, Items: Iterator> {
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
    under_way: usize,
    /// How many bytes there are to an item, about.
    size: usize,
    /// How many are read ahead, if that was said.
    window: Option<usize>,
    /// How many values came back and wait for those before them.
    kept: usize,
    /// The pool was found closed; reading more items would be for nothing.
    closed: bool,
    of: PhantomData<fn() -> F>,
}

impl<'pool, F: ProcessFn, Items: Iterator<Item: Serialize>> Feed<'pool, F, Items> {
    fn new(pool: &'pool Pool, items: Items) -> Self {
        Self {
            pool,
            items: items.fuse(),
            function: pool.scheduler().function(F::NAME),
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
    fn read_ahead(&mut self, left: usize) {
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
        if let Err(error) = calls.add(|bytes, most| Message::append_or_keep(item, bytes, most)) {
            self.submit();
            self.under_way += 1;
            let ends = Ends::Failed(TaskError::Encode(error.within(ARGUMENTS)));
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
    fn next(&mut self) -> Option<Delivery> {
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
    fn poll_next(&mut self, waker: &Waker) -> Poll<Option<Delivery>> {
        let nothing_will_come = self.arrived.is_empty() && {
            self.submit();
            self.under_way == 0 || self.pool.scheduler().is_copy()
        };
        if nothing_will_come {
            return Poll::Ready(None);
        }
        if self.arrived.is_empty() {
            match self.batch.poll(waker) {
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
    fn size_hint(&self) -> (usize, Option<usize>) {
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

/// Puts the values into the order of their items; the first error, in that order, is the result.
fn in_order<F: ProcessFn, Items: Iterator<Item: Serialize>>(
    mut feed: Feed<'_, F, Items>,
) -> Result<Vec<F::Output>, TaskError> {
    // Values that follow each other, from a place on.
    let mut parts: Vec<(usize, Vec<F::Output>)> = Vec::new();
    let mut first_error: Option<(usize, TaskError)> = None;
    loop {
        feed.read_ahead(0);
        let Some(delivery) = feed.next() else { break };
        let mut values = Decoder::new(delivery);
        // The end of a part that goes on here.
        let mut part = None;
        while let Some((index, value)) = values.next::<F::Output>() {
            match value {
                Ok(value) => {
                    let place = match part {
                        Some(place) => place,
                        None => *part.insert(part_that_goes_on(&mut parts, index, values.left() + 1)),
                    };
                    parts[place].1.push(value);
                }
                Err(error) => {
                    part = None;
                    if first_error.as_ref().is_none_or(|(first, _)| index < *first) {
                        first_error = Some((index, error));
                    }
                }
            }
        }
    }
    if let Some((_, error)) = first_error {
        return Err(error);
    }
    parts.sort_unstable_by_key(|(first, _)| *first);
    let mut parts = parts.into_iter();
    let mut values = parts.next().map_or_else(Vec::new, |(_, values)| values);
    values.reserve_exact(parts.as_slice().iter().map(|(_, values)| values.len()).sum());
    parts.for_each(|(_, mut part)| values.append(&mut part));
    Ok(values)
}

/// The place of a part that ends where `index` begins: one of the last ones, or a new one.
fn part_that_goes_on<R>(parts: &mut Vec<(usize, Vec<R>)>, index: usize, more: usize) -> usize {
    let goes_on = |(first, values): &(usize, Vec<R>)| first + values.len() == index;
    let last = parts.len().saturating_sub(8);
    if let Some(place) = parts[last..].iter().rposition(goes_on) {
        return last + place;
    }
    parts.push((index, Vec::with_capacity(more)));
    parts.len() - 1
}

/// Gives the values of one function on many items as they come, with the indices of the items: see
/// [`Pool::imap_unordered`].
#[must_use = "iterators are lazy: this one starts nothing until a value is asked for"]
pub struct ImapUnordered<'pool, F: ProcessFn, Items: Iterator> {
    feed: Feed<'pool, F, Items>,
    values: Option<Decoder>,
}

impl<'pool, F: ProcessFn, Items: Iterator<Item = F::Args>> ImapUnordered<'pool, F, Items> {
    fn new(pool: &'pool Pool, items: Items) -> Self {
        Self { feed: Feed::new(pool, items), values: None }
    }

    /// Sets how many items are read ahead of the value that is asked for, at least one.
    pub fn window(mut self, items: usize) -> Self {
        self.feed.window = Some(items.max(1));
        self
    }

    fn left(&self) -> usize {
        self.values.as_ref().map_or(0, Decoder::left)
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Iterator for ImapUnordered<'_, F, Items> {
    type Item = (usize, Result<F::Output, TaskError>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.values.as_mut().and_then(Decoder::next) {
                // The workers go on while the values are looked at.
                if self.left() % 256 == 0 {
                    self.feed.read_ahead(self.left());
                }
                return Some(value);
            }
            self.feed.read_ahead(0);
            self.values = Some(Decoder::new(self.feed.next()?));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.feed.size_hint();
        (least.saturating_add(self.left()), most.and_then(|most| most.checked_add(self.left())))
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> FusedIterator for ImapUnordered<'_, F, Items> {}

impl<F: ProcessFn, Items: Iterator> fmt::Debug for ImapUnordered<'_, F, Items> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").field("under_way", &self.feed.under_way).finish_non_exhaustive()
    }
}

/// Gives the values of one function on many items in order: see [`Pool::imap`].
#[must_use = "iterators are lazy: this one starts nothing until a value is asked for"]
pub struct Imap<'pool, F: ProcessFn, Items: Iterator> {
    values: ImapUnordered<'pool, F, Items>,
    /// Values that came before their turn, from the next one on.
    waiting: VecDeque<Option<Result<F::Output, TaskError>>>,
    next: usize,
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Imap<'_, F, Items> {
    /// Sets how many items are read ahead of the value that is asked for, at least one.
    pub fn window(mut self, items: usize) -> Self {
        self.values = self.values.window(items);
        self
    }
}

impl<F: ProcessFn, Items: Iterator> Imap<'_, F, Items> {
    /// The next value, if it is there.
    #[inline]
    fn ready(&mut self) -> Option<Result<F::Output, TaskError>> {
        if let Some(Some(_)) = self.waiting.front() {
            self.next += 1;
            return self.waiting.pop_front().flatten();
        }
        // What waits here counts as read ahead.
        self.values.feed.kept = self.waiting.len();
        None
    }

    /// Puts a value where it waits for its turn; true if there is none, now or ever.
    fn is_over(&mut self, came: Option<(usize, Result<F::Output, TaskError>)>) -> bool {
        let Some((index, value)) = came else {
            // An item whose encoding panicked has no value.
            while let Some(None) = self.waiting.front() {
                self.waiting.pop_front();
                self.next += 1;
            }
            return self.waiting.is_empty();
        };
        let place = index - self.next;
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, || None);
        }
        self.waiting[place] = Some(value);
        false
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Iterator for Imap<'_, F, Items> {
    type Item = Result<F::Output, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.ready() {
                return Some(value);
            }
            let came = self.values.next();
            if self.is_over(came) {
                return None;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let there = self.waiting.iter().flatten().count();
        let (least, most) = self.values.size_hint();
        (least.saturating_add(there), most.and_then(|most| most.checked_add(there)))
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> FusedIterator for Imap<'_, F, Items> {}

impl<F: ProcessFn, Items: Iterator> fmt::Debug for Imap<'_, F, Items> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The lazy maps as streams.
#[cfg(feature = "async")]
mod streams {
    use std::pin::Pin;

    use futures_core::Stream;

    use super::*;

    impl<'pool, F: ProcessFn, Items: Iterator<Item = F::Args>> ImapUnordered<'pool, F, Items> {
        /// Gives the values to a task as they come, without a thread that waits (feature `async`).
        ///
        /// # Examples
        ///
        /// ```
        /// use futures_lite::StreamExt;
        /// use mp_core::process_fn;
        /// use mp_pool::Pool;
        ///
        /// #[process_fn]
        /// fn square(number: u64) -> u64 {
        ///     number * number
        /// }
        ///
        /// # futures_lite::future::block_on(async {
        /// let pool = Pool::new(2)?;
        /// let mut values = pool.imap_unordered::<square>(1..=10).into_stream();
        /// let mut sum = 0;
        /// while let Some((_index, value)) = values.next().await {
        ///     sum += value?;
        /// }
        /// assert_eq!(sum, 385);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// # }).unwrap();
        /// ```
        pub fn into_stream(self) -> impl Stream<Item = (usize, Result<F::Output, TaskError>)> + Unpin {
            Values(self)
        }

        fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<<Self as Iterator>::Item>> {
            loop {
                if let Some(value) = self.values.as_mut().and_then(Decoder::next) {
                    return Poll::Ready(Some(value));
                }
                self.feed.read_ahead(0);
                match ready!(self.feed.poll_next(context.waker())) {
                    Some(delivery) => self.values = Some(Decoder::new(delivery)),
                    None => return Poll::Ready(None),
                }
            }
        }
    }

    impl<'pool, F: ProcessFn, Items: Iterator<Item = F::Args>> Imap<'pool, F, Items> {
        /// Gives the values to a task in order, without a thread that waits (feature `async`).
        pub fn into_stream(self) -> impl Stream<Item = Result<F::Output, TaskError>> + Unpin {
            Values(self)
        }

        fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<<Self as Iterator>::Item>> {
            loop {
                if let Some(value) = self.ready() {
                    return Poll::Ready(Some(value));
                }
                let came = ready!(self.values.poll_next(context));
                if self.is_over(came) {
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// A lazy map as a stream.
    struct Values<Map>(Map);

    /// Nothing in it is pinned.
    impl<Map> Unpin for Values<Map> {}

    impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Stream for Values<ImapUnordered<'_, F, Items>> {
        type Item = (usize, Result<F::Output, TaskError>);

        fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.get_mut().0.poll_next(context)
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            self.0.size_hint()
        }
    }

    impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Stream for Values<Imap<'_, F, Items>> {
        type Item = Result<F::Output, TaskError>;

        fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.get_mut().0.poll_next(context)
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            self.0.size_hint()
        }
    }
}
