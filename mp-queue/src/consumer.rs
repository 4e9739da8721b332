//! The handle that gets.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use mp_sync::futex::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::{self, Batch, Failure};
use crate::error::{GetError, GetManyError};
use crate::holder::Holder;
use crate::memory::Side;

/// The half of a [`Queue`](crate::Queue) that gets.
///
/// [`Queue::consumer`](crate::Queue::consumer) makes one. While only halves exist, each side learns
/// that the other is gone, however its processes ended: a producer's put fails with
/// [`PutErrorReason::Disconnected`](crate::PutErrorReason::Disconnected), at the latest when the
/// queue is full. It is a value: clone it, and send it in arguments, results, messages and queues.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_queue::{Consumer, Queue};
///
/// #[process_fn]
/// fn sum(numbers: Consumer<u64>) -> u64 {
///     numbers.iter().map(|number| number.expect("a number")).sum()
/// }
///
/// let (producer, consumer) = Queue::bounded(8)?.into_split();
/// let child = sum::spawn(consumer)?;
/// for number in 0..100 {
///     producer.put(number)?;
/// }
/// drop(producer); // the end of the iteration in the child
/// assert_eq!(child.join()?, 4950);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer<T> {
    pub(crate) holder: Holder,
    /// How many producers this handle is: 1 as part of a queue.
    pub(crate) producers: usize,
    values: PhantomData<fn() -> T>,
}

impl<T> Consumer<T> {
    pub(crate) fn new(holder: Holder, producers: usize) -> Self {
        Self { holder, producers, values: PhantomData }
    }

    /// Closes the queue; see [`Queue::close`](crate::Queue::close).
    pub fn close(&self) {
        self.holder.close();
    }
}

impl<T: DeserializeOwned> Consumer<T> {
    /// Gets the next value, waiting for it; see [`Queue::get`](crate::Queue::get).
    ///
    /// # Errors
    ///
    /// As [`Queue::get`](crate::Queue::get).
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        // Without a deadline there is always a value or an error.
        self.get_until(Deadline::NEVER)?.ok_or(GetError::Disconnected)
    }

    /// Gets the next value if there is one now; see [`Queue::try_get`](crate::Queue::try_get).
    ///
    /// # Errors
    ///
    /// As [`Queue::try_get`](crate::Queue::try_get).
    pub fn try_get(&self) -> Result<Option<T>, GetError> {
        self.get_until(Deadline::PASSED)
    }

    /// Gets the next value, waiting for it no longer than `timeout`; see
    /// [`Queue::get_timeout`](crate::Queue::get_timeout).
    ///
    /// # Errors
    ///
    /// As [`Queue::get_timeout`](crate::Queue::get_timeout).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    #[inline]
    fn get_until(&self, deadline: Deadline) -> Result<Option<T>, GetError> {
        Batch::with(|batch| {
            if !self.holder.get(batch, 1, deadline, self.producers)? {
                return Ok(None);
            }
            let Some(part) = batch.parts.pop() else { return Ok(None) };
            Ok(Some(batch::decode(&mut batch.bytes, part)?))
        })
    }

    /// Gets several values, waiting for the first; see [`Queue::get_many`](crate::Queue::get_many).
    ///
    /// # Errors
    ///
    /// As [`Queue::get_many`](crate::Queue::get_many).
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Deadline::NEVER)
    }

    /// Gets all values that are there, without waiting; see [`Queue::drain`](crate::Queue::drain).
    ///
    /// # Errors
    ///
    /// As [`Queue::drain`](crate::Queue::drain).
    pub fn drain(&self) -> Result<Vec<T>, GetManyError<T>> {
        let mut all = Vec::new();
        // No more than there were, so that it ends although producers go on.
        let mut left = self.holder.len();
        loop {
            match self.get_some(left.max(1), Deadline::PASSED) {
                Ok(some) if some.is_empty() => return Ok(all),
                Ok(some) => {
                    left = left.saturating_sub(some.len());
                    all.extend(some);
                }
                Err(GetManyError { reason: GetError::Closed | GetError::Disconnected, .. }) if !all.is_empty() => {
                    return Ok(all);
                }
                Err(error) => {
                    all.extend(error.values);
                    return Err(GetManyError { values: all, ..error });
                }
            }
            if left == 0 {
                return Ok(all);
            }
        }
    }

    fn get_some(&self, most: usize, deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        Batch::with(|batch| {
            if let Err(reason) = self.holder.get(batch, most, deadline, self.producers) {
                return Err(GetManyError { values: Vec::new(), failed: 0, reason });
            }
            let mut values = Vec::with_capacity(batch.parts.len());
            let (mut failed, mut first) = (0, None);
            for part in batch.parts.drain(..) {
                match batch::decode(&mut batch.bytes, part) {
                    Ok(value) => values.push(value),
                    Err(failure) => {
                        failed += 1;
                        first.get_or_insert(failure);
                    }
                }
            }
            match first {
                None => Ok(values),
                Some(failure) => Err(GetManyError { values, failed, reason: failure.into() }),
            }
        })
    }

    /// Iterates over the values; see [`Queue::iter`](crate::Queue::iter).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { consumer: self, ended: false }
    }

    /// Waits for the next value without a thread; see
    /// [`Queue::get_async`](crate::Queue::get_async).
    ///
    /// # Errors
    ///
    /// As [`Queue::get_async`](crate::Queue::get_async).
    #[cfg(feature = "async")]
    pub async fn get_async(&self) -> Result<T, GetError> {
        loop {
            if let Some(value) = self.try_get()? {
                return Ok(value);
            }
            self.holder.watch_items(self.producers).map_err(GetError::Io)?;
            self.holder.items_event.readable().await.map_err(GetError::Io)?;
        }
    }
}

impl From<Failure> for GetError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Decode(error) => Self::Decode(error),
            Failure::Io(error) => Self::Io(error),
        }
    }
}

/// An iterator over the values of a queue, which waits for each; see
/// [`Queue::iter`](crate::Queue::iter).
pub struct Iter<'a, T> {
    consumer: &'a Consumer<T>,
    ended: bool,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.consumer.get() {
            Err(GetError::Closed | GetError::Disconnected) => {
                self.ended = true;
                None
            }
            // The queue goes on behind a value that could not be decoded.
            Ok(value) => Some(Ok(value)),
            Err(error @ GetError::Decode(_)) => Some(Err(error)),
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Consumer<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Consumer<T> {
    fn clone(&self) -> Self {
        Self::new(self.holder.clone(), self.producers)
    }
}

impl<T> Serialize for Consumer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.holder.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Consumer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Holder::deserialize(Side::Consumers, deserializer).map(|holder| Self::new(holder, 0))
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.holder.len()).finish_non_exhaustive()
    }
}
