//! `Queue`: values that each go to one taker.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::value::Value;
use crate::wire::{Change, Initial, Operation};

proxy! {
    /// A queue in a server: first in, first out, for any number of processes on either side.
    ///
    /// `mp_queue::Queue` is many times as fast among processes that can share memory. This one
    /// holds any number of values of any length, and can be published.
    ///
    /// # Process death
    ///
    /// A value is lost only with a process that had received it. If a process dies while a value is
    /// on its way to it, the value goes back to the front of the queue. A process that dies while
    /// it waits leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Manager, Queue};
    ///
    /// #[process_fn]
    /// fn double(numbers: Queue<u64>, doubled: Queue<u64>) {
    ///     while let Some(number) = numbers.try_get().unwrap() {
    ///         doubled.put(2 * number).unwrap();
    ///     }
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let (numbers, doubled) = (Queue::new(&manager)?, Queue::bounded(&manager, 10)?);
    /// numbers.put(21)?;
    /// double::spawn(numbers, doubled.clone())?.join()?;
    /// assert_eq!(doubled.get()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Queue<T>;
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// Makes an empty queue without a limit.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host) -> Result<Self, CallError> {
        Handle::create(host, Initial::Queue(None))
    }

    /// Makes an empty queue that holds at most `capacity` values, and at least one.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn bounded(host: &impl Host, capacity: usize) -> Result<Self, CallError> {
        Handle::create(host, Initial::Queue(Some(capacity.max(1) as u64)))
    }

    /// Puts a value at the end, and waits for room.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the proxy has a limit, and any [`CallError`] that is not about a
    /// function.
    pub fn put(&self, value: T) -> Result<(), CallError> {
        self.put_within(&value, None)?.then_some(()).ok_or(CallError::TimedOut)
    }

    /// Puts a value at the end if there is room. Otherwise the inner error holds the value.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn try_put(&self, value: T) -> Result<Result<(), T>, CallError> {
        self.put_timeout(value, Duration::ZERO)
    }

    /// Does the same, and waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_put`](Self::try_put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<Result<(), T>, CallError> {
        Ok(if self.put_within(&value, Some(timeout))? { Ok(()) } else { Err(value) })
    }

    fn put_within(&self, value: &T, timeout: Option<Duration>) -> Result<bool, CallError> {
        self.handle.wait(timeout, Operation::Put(Value::encode(value)?))
    }

    /// Waits for a value, and takes it.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the proxy has a limit, and any [`CallError`] that is not about a
    /// function.
    pub fn get(&self) -> Result<T, CallError> {
        self.handle.take(None)?.ok_or(CallError::TimedOut)
    }

    /// Takes a value if there is one.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn try_get(&self) -> Result<Option<T>, CallError> {
        self.handle.take(Some(Duration::ZERO))
    }

    /// Takes a value, and waits for one for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>, CallError> {
        self.handle.take(Some(timeout))
    }

    /// Returns how many values the queue holds.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub fn len(&self) -> Result<usize, CallError> {
        self.handle.call(Operation::Len)
    }

    /// Tells whether the queue holds no value.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|length| length == 0)
    }

    /// Removes all values.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.change(Change::Clear)
    }
}
