//! The handle that puts.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use mp_sync::futex::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::{Batch, Part};
use crate::error::{PutError, PutErrorReason, PutManyError};
use crate::holder::Holder;
use crate::memory::Side;

/// The half of a [`Queue`](crate::Queue) that puts.
///
/// [`Queue::producer`](crate::Queue::producer) makes one. While only halves exist, each side learns
/// that the other is gone, however its processes ended: a consumer gets what is left and then
/// [`GetError::Disconnected`](crate::GetError::Disconnected). It is a value: clone it, and send it
/// in arguments, results, messages and queues.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_queue::{GetError, Producer, Queue};
///
/// #[process_fn]
/// fn count(numbers: Producer<u32>) {
///     for number in 0..3 {
///         numbers.put(number).expect("the parent consumes");
///     }
///     std::process::abort();
/// }
///
/// let queue = Queue::bounded(8)?;
/// let (producer, consumer) = queue.into_split();
/// let child = count::spawn(producer)?;
/// for number in 0..3 {
///     assert_eq!(consumer.get()?, number);
/// }
/// assert!(matches!(consumer.get(), Err(GetError::Disconnected)));
/// assert!(child.join().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer<T> {
    pub(crate) holder: Holder,
    /// How many consumers this handle is: 1 as part of a queue.
    pub(crate) consumers: usize,
    values: PhantomData<fn(T)>,
}

/// How many values [`put_many`](crate::Queue::put_many) puts at once.
const AT_ONCE: usize = 64;

impl<T> Producer<T> {
    pub(crate) fn new(holder: Holder, consumers: usize) -> Self {
        Self { holder, consumers, values: PhantomData }
    }

    /// Closes the queue; see [`Queue::close`](crate::Queue::close).
    pub fn close(&self) {
        self.holder.close();
    }
}

impl<T: Serialize> Producer<T> {
    /// Puts `value`, waiting for room; see [`Queue::put`](crate::Queue::put).
    ///
    /// # Errors
    ///
    /// As [`Queue::put`](crate::Queue::put).
    #[inline]
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NEVER)
    }

    /// Puts `value` if there is room now; see [`Queue::try_put`](crate::Queue::try_put).
    ///
    /// # Errors
    ///
    /// As [`Queue::try_put`](crate::Queue::try_put).
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::PASSED)
    }

    /// Puts `value`, waiting for room no longer than `timeout`; see
    /// [`Queue::put_timeout`](crate::Queue::put_timeout).
    ///
    /// # Errors
    ///
    /// As [`Queue::put_timeout`](crate::Queue::put_timeout).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::after(timeout))
    }

    #[inline]
    fn put_until(&self, value: T, deadline: Deadline) -> Result<(), PutError<T>> {
        let put = Batch::with(|batch| {
            batch.encode(&value, self.holder.most_inline()).map_err(PutErrorReason::Encode)?;
            self.holder.put(batch, deadline, self.consumers).1
        });
        put.map_err(|reason| PutError { value, reason })
    }

    /// Puts several values; see [`Queue::put_many`](crate::Queue::put_many).
    ///
    /// # Errors
    ///
    /// As [`Queue::put_many`](crate::Queue::put_many).
    pub fn put_many(&self, values: impl IntoIterator<Item = T>) -> Result<usize, PutManyError<T>> {
        let mut values = values.into_iter();
        let mut some: Vec<T> = Vec::with_capacity(values.size_hint().0.min(AT_ONCE));
        let mut total = 0;
        loop {
            some.extend(values.by_ref().take(AT_ONCE));
            if some.is_empty() {
                return Ok(total);
            }
            let (put, result) = Batch::with(|batch| {
                let most = self.holder.most_inline();
                let encoded = some.iter().try_for_each(|value| batch.encode(value, most));
                // What comes before a value that cannot be encoded is put.
                let (put, result) = self.holder.put(batch, Deadline::NEVER, self.consumers);
                (put, result.and(encoded.map_err(PutErrorReason::Encode)))
            });
            total += put;
            if let Err(reason) = result {
                some.drain(..put);
                return Err(PutManyError { put: total, values: some, reason });
            }
            some.clear();
        }
    }

    /// Waits for room without a thread, and puts `value`; see
    /// [`Queue::put_async`](crate::Queue::put_async).
    ///
    /// # Errors
    ///
    /// As [`Queue::put_async`](crate::Queue::put_async).
    #[cfg(feature = "async")]
    pub async fn put_async(&self, value: T) -> Result<(), PutError<T>> {
        let mut batch = Batch::default();
        let put = match batch.encode(&value, self.holder.most_inline()) {
            Ok(()) => self.put_batch(&mut batch).await,
            Err(error) => Err(PutErrorReason::Encode(error)),
        };
        put.map_err(|reason| PutError { value, reason })
    }

    /// Puts the one message of `batch`.
    #[cfg(feature = "async")]
    async fn put_batch(&self, batch: &mut Batch) -> Result<(), PutErrorReason> {
        loop {
            match self.holder.put(batch, Deadline::PASSED, self.consumers).1 {
                Err(PutErrorReason::Full) => {}
                result => return result,
            }
            let length = batch.parts.first().map_or(0, Part::length_in_ring);
            self.holder.watch_space(length, self.consumers).map_err(PutErrorReason::Io)?;
            self.holder.space_event.readable().await.map_err(PutErrorReason::Io)?;
        }
    }
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self::new(self.holder.clone(), self.consumers)
    }
}

impl<T> Serialize for Producer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.holder.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Producer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Holder::deserialize(Side::Producers, deserializer).map(|holder| Self::new(holder, 0))
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.holder.len()).finish_non_exhaustive()
    }
}
