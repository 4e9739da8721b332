//! One function on many items.

use std::fmt;
use std::iter::{Enumerate, Fuse, FusedIterator};
use std::marker::PhantomData;
use std::sync::Arc;

use mp_core::{Call, ProcessFn};

use crate::batch::Batch;
use crate::error::TaskError;
use crate::pool::Pool;
use crate::scheduler::Destination;
use crate::task::decode;

/// How many items for each worker are read ahead of the values.
const WINDOW: usize = 4;

impl Pool {
    /// Runs `F` on each of `items` and returns the values in order:
    /// `pool.map::<add>([(1, 2), (3, 4)])`.
    ///
    /// An item is what `F` takes: the one parameter, or a tuple; a `String` where `F` takes a
    /// `&str`, and so on. Items are read as workers become free for them; only the values are all
    /// kept.
    ///
    /// # Errors
    ///
    /// The error of the first item, in order, that has one. The others are run to the end all the
    /// same.
    pub fn map<F: ProcessFn>(&self, items: impl IntoIterator<Item = F::Args>) -> Result<Vec<F::Output>, TaskError> {
        in_order(self.imap_unordered::<F>(items))
    }

    /// Runs `F` on each of `items` and gives each value as soon as it is there, with the index of
    /// its item.
    ///
    /// It is lazy: an item is read when a value is asked for, and only a few for each worker ahead
    /// of it, so there may be more items than memory has room for. Dropping the iterator forgets
    /// the tasks that have not begun.
    ///
    /// Items are owned, as for [`map`](Self::map): a `String` where `F` takes a `&str`, a `Vec<T>`
    /// where it takes a `&[T]`. Only [`submit`](Self::submit) lends.
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

/// Gives the values of one function on many items as they come, with the indices of the items: see
/// [`Pool::imap_unordered`].
#[must_use = "iterators are lazy: this one starts nothing until a value is asked for"]
pub struct ImapUnordered<'pool, F, Items: Iterator> {
    pool: &'pool Pool,
    items: Fuse<Enumerate<Items>>,
    batch: Arc<Batch>,
    /// How many were submitted and not given yet.
    under_way: usize,
    /// The pool was found closed; reading more items would be for nothing.
    closed: bool,
    function: PhantomData<fn() -> F>,
}

impl<'pool, F: ProcessFn, Items: Iterator<Item = F::Args>> ImapUnordered<'pool, F, Items> {
    fn new(pool: &'pool Pool, items: Items) -> Self {
        Self {
            pool,
            items: items.enumerate().fuse(),
            batch: Arc::new(Batch::default()),
            under_way: 0,
            closed: false,
            function: PhantomData,
        }
    }

    fn read_ahead(&mut self) {
        while !self.closed && self.under_way < WINDOW * self.pool.workers() {
            let Some((index, item)) = self.items.next() else { return };
            self.pool.submit_to(Call::<F>::new(item), Destination::Batch(Arc::clone(&self.batch), index));
            // Not before: encoding an item runs code of the user's, which may panic.
            self.under_way += 1;
        }
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> Iterator for ImapUnordered<'_, F, Items> {
    type Item = (usize, Result<F::Output, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.read_ahead();
        if self.under_way == 0 {
            return None;
        }
        let (index, finished) = self.batch.take();
        self.under_way -= 1;
        if let Err(TaskError::PoolClosed) = finished {
            self.closed = true;
        }
        Some((index, decode(finished)))
    }
}

impl<F: ProcessFn, Items: Iterator<Item = F::Args>> FusedIterator for ImapUnordered<'_, F, Items> {}

impl<F, Items: Iterator> Drop for ImapUnordered<'_, F, Items> {
    fn drop(&mut self) {
        if self.under_way > 0 {
            self.pool.forget(&self.batch);
        }
    }
}

impl<F, Items: Iterator> fmt::Debug for ImapUnordered<'_, F, Items> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// Puts the values into the order of their items; the first error, in that order, is the result.
fn in_order<R>(values: impl Iterator<Item = (usize, Result<R, TaskError>)>) -> Result<Vec<R>, TaskError> {
    let mut ordered = Vec::new();
    let mut first_error: Option<(usize, TaskError)> = None;
    for (index, value) in values {
        match value {
            Ok(value) => {
                if ordered.len() <= index {
                    ordered.resize_with(index + 1, || None);
                }
                ordered[index] = Some(value);
            }
            Err(error) => {
                if first_error.as_ref().is_none_or(|(first, _)| index < *first) {
                    first_error = Some((index, error));
                }
            }
        }
    }
    match first_error {
        Some((_, error)) => Err(error),
        None => Ok(ordered.into_iter().flatten().collect()),
    }
}
