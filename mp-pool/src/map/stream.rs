//! The lazy maps as streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use mp_core::ProcessFn;

use super::lazy::{Imap, ImapUnordered};
use crate::batch::Decoder;
use crate::error::TaskError;

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
