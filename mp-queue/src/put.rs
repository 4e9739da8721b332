//! Putting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mp_sync::futex::Deadline;
use serde::Serialize;

#[cfg(feature = "async")]
use crate::batch::Batch;
use crate::batch::Reused;
use crate::error::{PutError, PutErrorReason, PutManyError};
use crate::queue::Queue;
use crate::role::Puts;

/// How many values [`put_many`](Queue::put_many) encodes at once.
const AT_ONCE: usize = 64;

/// Putting: of [`Queue`] and [`Producer`](crate::Producer).
impl<T: Serialize, R: Puts> Queue<T, R> {
    /// Puts `value` at the end, waiting while the queue is full.
    ///
    /// The calling thread encodes the value before it waits. Descriptors in it are duplicated.
    ///
    /// # Errors
    ///
    /// The value comes back with the reason: [`PutErrorReason::Closed`],
    /// [`Disconnected`](PutErrorReason::Disconnected), [`Encode`](PutErrorReason::Encode), or
    /// [`Io`](PutErrorReason::Io).
    #[inline]
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NEVER)
    }

    /// Puts `value` at the end if the queue has room now.
    ///
    /// While another process is in the middle of a put, this waits for it, at most 10 ms.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutErrorReason::Full`].
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::PASSED)
    }

    /// Puts `value` at the end, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutErrorReason::TimedOut`].
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::after(timeout))
    }

    #[inline]
    fn put_until(&self, value: T, deadline: Deadline) -> Result<(), PutError<T>> {
        let mut batch = Reused::new();
        if let Err(error) = batch.encode(&value, self.memory()) {
            return Err(PutError { value, reason: PutErrorReason::Encode(error) });
        }
        match self.memory().put(&mut batch, deadline, R::CONSUMERS).1 {
            Ok(()) => Ok(()),
            Err(reason) => Err(PutError { value, reason }),
        }
    }

    /// Puts values one behind the other, waiting while the queue is full, and returns how many.
    ///
    /// It encodes 64 values at a time, and puts as many of them as there is room for at once. That
    /// takes less time than as many calls of [`put`](Self::put). Values of other producers may come
    /// in between.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put). The error says how many were put, and holds the values that were
    /// taken from the iterator and were not. Pass an iterator by `&mut` to keep the rest.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = mp_queue::Queue::new()?;
    /// assert_eq!(queue.put_many(1..=100)?, 100);
    /// assert_eq!(queue.get_many(3)?, [1, 2, 3]);
    /// assert_eq!(queue.drain()?.len(), 97);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many(&self, values: impl IntoIterator<Item = T>) -> Result<usize, PutManyError<T>> {
        let mut values = values.into_iter();
        let mut some: Vec<T> = Vec::with_capacity(values.size_hint().0.min(AT_ONCE));
        let mut total = 0;
        loop {
            some.extend(values.by_ref().take(AT_ONCE));
            if some.is_empty() {
                return Ok(total);
            }
            let mut batch = Reused::new();
            let encoded = some.iter().try_for_each(|value| batch.encode(value, self.memory()));
            // What comes before a value that cannot be encoded is put.
            let (put, result) = self.memory().put(&mut batch, Deadline::NEVER, R::CONSUMERS);
            total += put;
            if let Err(reason) = result.and(encoded.map_err(PutErrorReason::Encode)) {
                some.drain(..put);
                return Err(PutManyError { put: total, values: some, reason });
            }
            some.clear();
        }
    }

    /// Puts `value` at the end; the future waits for room without a thread, on any executor
    /// (feature `async`).
    ///
    /// The first poll encodes the value. It was put if and only if the future returns `Ok`:
    /// dropping the future earlier puts nothing, and drops the value.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutErrorReason::Io`] if the thread that waits for all tasks
    /// cannot be started.
    #[cfg(feature = "async")]
    pub async fn put_async(&self, value: T) -> Result<(), PutError<T>> {
        let mut batch = Batch::default();
        let put = match batch.encode(&value, self.memory()) {
            Ok(()) => self.put_batch(&mut batch).await,
            Err(error) => Err(PutErrorReason::Encode(error)),
        };
        put.map_err(|reason| PutError { value, reason })
    }

    /// Puts the one message of `batch`.
    #[cfg(feature = "async")]
    async fn put_batch(&self, batch: &mut Batch) -> Result<(), PutErrorReason> {
        loop {
            match self.memory().put(batch, Deadline::PASSED, R::CONSUMERS).1 {
                Err(PutErrorReason::Full) => {}
                result => return result,
            }
            let event = self.memory().watch_space(batch.parts.first(), R::CONSUMERS).map_err(PutErrorReason::Io)?;
            event.readable().await.map_err(PutErrorReason::Io)?;
        }
    }
}

impl<T, R: Puts> Queue<T, R> {
    /// Returns a descriptor that is **readable** while a [`put`](Self::put) of a small value would
    /// not wait, for [`mp_core::wait`] and poll(2). Call this again before each wait.
    ///
    /// It is a hint: another producer may be faster, so use [`try_put`](Self::try_put) then. It is
    /// also readable after 100 ms, as [`readable`](Self::readable) is.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable).
    pub fn writable(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.memory().watch_space(None, R::CONSUMERS)?.as_fd())
    }
}
