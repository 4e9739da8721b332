//! One function on many items.

mod feed;
mod lazy;
mod ordered;
#[cfg(feature = "async")]
mod stream;

use mp_core::ProcessFn;

use crate::error::TaskError;
use crate::pool::Pool;
use feed::Feed;
pub use lazy::{Imap, ImapUnordered};

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
        ordered::in_order(Feed::<F, _>::new(self, items.into_iter()))
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
        ordered::in_order(Feed::<F, _>::new(self, items.into_iter()))
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
        Imap::new(ImapUnordered::new(self, items.into_iter()))
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
