//! The lazy maps.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;

use mp_core::ProcessFn;

use super::feed::Feed;
use crate::batch::Decoder;
use crate::error::TaskError;
use crate::pool::Pool;

/// Gives the values of one function on many items as they come, with the indices of the items: see
/// [`Pool::imap_unordered`].
#[must_use = "iterators are lazy: this one starts nothing until a value is asked for"]
pub struct ImapUnordered<'pool, F: ProcessFn, Items: Iterator> {
    pub(super) feed: Feed<'pool, F, Items>,
    pub(super) values: Option<Decoder>,
}

impl<'pool, F: ProcessFn, Items: Iterator<Item = F::Args>> ImapUnordered<'pool, F, Items> {
    pub(super) fn new(pool: &'pool Pool, items: Items) -> Self {
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

/// [`len`](ExactSizeIterator::len) is right if the items are an `ExactSizeIterator`, as a range, a
/// slice or a vector is: then `progress()` of indicatif shows how far the map is.
///
/// # Panics
///
/// `len` panics if the items do not say exactly how many they are. The type of the items is not a
/// part of the signature of [`Pool::imap_unordered`], so the compiler cannot see that.
impl<F: ProcessFn, Items: Iterator<Item = F::Args>> ExactSizeIterator for ImapUnordered<'_, F, Items> {
    fn len(&self) -> usize {
        exactly(self.size_hint())
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
    pub(super) values: ImapUnordered<'pool, F, Items>,
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

impl<'pool, F: ProcessFn, Items: Iterator> Imap<'pool, F, Items> {
    pub(super) fn new(values: ImapUnordered<'pool, F, Items>) -> Self {
        Self { values, waiting: VecDeque::new(), next: 0 }
    }

    /// The next value, if it is there.
    #[inline]
    pub(super) fn ready(&mut self) -> Option<Result<F::Output, TaskError>> {
        if let Some(Some(_)) = self.waiting.front() {
            self.next += 1;
            return self.waiting.pop_front().flatten();
        }
        // What waits here counts as read ahead.
        self.values.feed.kept = self.waiting.len();
        None
    }

    /// Puts a value where it waits for its turn; true if there is none, now or ever.
    pub(super) fn is_over(&mut self, came: Option<(usize, Result<F::Output, TaskError>)>) -> bool {
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

/// [`len`](ExactSizeIterator::len) is right if the items are an `ExactSizeIterator`, as a range, a
/// slice or a vector is: then `progress()` of indicatif shows how far the map is.
///
/// # Panics
///
/// `len` panics if the items do not say exactly how many they are. The type of the items is not a
/// part of the signature of [`Pool::imap`], so the compiler cannot see that.
impl<F: ProcessFn, Items: Iterator<Item = F::Args>> ExactSizeIterator for Imap<'_, F, Items> {
    fn len(&self) -> usize {
        exactly(self.size_hint())
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> FusedIterator for Imap<'_, F, Items> {}

impl<F: ProcessFn, Items: Iterator> fmt::Debug for Imap<'_, F, Items> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("next", &self.next).finish_non_exhaustive()
    }
}

fn exactly(size_hint: (usize, Option<usize>)) -> usize {
    match size_hint {
        (least, Some(most)) if least == most => least,
        (least, most) => panic!("the items do not say how many they are: from {least} to {most:?}"),
    }
}
