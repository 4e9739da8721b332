//! Getting.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mp_sync::futex::Deadline;
use serde::de::DeserializeOwned;

use crate::batch::{Batch, Part, Reused};
use crate::error::{GetError, GetManyError};
use crate::queue::Queue;
use crate::role::{Both, Gets, Role};

/// Getting: of [`Queue`] and [`Consumer`](crate::Consumer).
impl<T: DeserializeOwned, R: Gets> Queue<T, R> {
    /// Gets the value at the front, waiting while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] and [`GetError::Disconnected`] once the queue is empty;
    /// [`GetError::Decode`] for a value that is no `T`, which is lost, and the queue goes on;
    /// [`GetError::Io`].
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        let mut batch = Reused::new();
        match self.get_part(&mut batch, Deadline::NEVER)? {
            Some(part) => batch.decode(part),
            // Without a deadline there is always a value or an error.
            None => Err(GetError::Disconnected),
        }
    }

    /// Gets the value at the front if there is one now.
    ///
    /// While another process is in the middle of a get, this waits for it, at most 10 ms.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn try_get(&self) -> Result<Option<T>, GetError> {
        self.get_until(Deadline::PASSED)
    }

    /// Gets the value at the front, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    fn get_until(&self, deadline: Deadline) -> Result<Option<T>, GetError> {
        let mut batch = Reused::new();
        let part = self.get_part(&mut batch, deadline)?;
        part.map(|part| batch.decode(part)).transpose()
    }

    #[inline]
    fn get_part(&self, batch: &mut Batch, deadline: Deadline) -> Result<Option<Part>, GetError> {
        self.memory().get(batch, 1, deadline, R::PRODUCERS)?;
        Ok(batch.parts.pop())
    }

    /// Gets the values at the front, `most` at most, waiting until there is one.
    ///
    /// That takes less time than as many calls of [`get`](Self::get). A process that is killed in
    /// the middle of it takes them all with it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). If some of the values cannot be decoded, the error holds the others.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Deadline::NEVER)
    }

    /// Gets all values that are in the queue, without waiting.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many).
    pub fn drain(&self) -> Result<Vec<T>, GetManyError<T>> {
        let mut all = Vec::new();
        // No more than there were, so that it ends although producers go on.
        let mut left = self.memory().len();
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
        let mut batch = Reused::new();
        if let Err(reason) = self.memory().get(&mut batch, most, deadline, R::PRODUCERS) {
            return Err(GetManyError { values: Vec::new(), failed: 0, reason });
        }
        let mut values = Vec::with_capacity(batch.parts.len());
        let (mut failed, mut first) = (0, None);
        let mut parts = mem::take(&mut batch.parts);
        for part in parts.drain(..) {
            match batch.decode(part) {
                Ok(value) => values.push(value),
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                }
            }
        }
        batch.parts = parts;
        match first {
            None => Ok(values),
            Some(reason) => Err(GetManyError { values, failed, reason }),
        }
    }

    /// Iterates over the values, waiting for each. The iteration ends when [`get`](Self::get) would
    /// return [`GetError::Closed`] or [`GetError::Disconnected`].
    ///
    /// It yields the other errors. After [`GetError::Damaged`] it ends; after the others, which can
    /// cost a value each, it goes on.
    pub fn iter(&self) -> Iter<'_, T, R> {
        Iter { queue: self, ended: false }
    }

    /// Gets the value at the front; the future waits for it without a thread, on any executor
    /// (feature `async`).
    ///
    /// Dropping the future loses no value. Several tasks and threads can wait at once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`GetError::Io`] if the thread that waits for all tasks cannot be
    /// started.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_queue::Queue;
    ///
    /// #[process_fn]
    /// fn answer(answers: Queue<u32>) {
    ///     answers.put(42).expect("the parent has it");
    /// }
    ///
    /// let answers = Queue::new()?;
    /// let child = answer::spawn(answers.clone())?;
    /// assert_eq!(pollster::block_on(answers.get_async())?, 42);
    /// child.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn get_async(&self) -> Result<T, GetError> {
        loop {
            if let Some(value) = self.try_get()? {
                return Ok(value);
            }
            let event = self.memory().watch_items(R::PRODUCERS).map_err(GetError::Io)?;
            event.readable().await.map_err(GetError::Io)?;
        }
    }
}

impl<T, R: Gets> Queue<T, R> {
    /// Returns a descriptor that is readable while a [`get`](Self::get) would not wait, for
    /// [`mp_core::wait`] and poll(2). Call this again before each wait.
    ///
    /// It is a hint: another consumer may be faster, so use [`try_get`](Self::try_get) then. It is
    /// also readable after 100 ms, for what a process that was killed could not tell.
    ///
    /// # Errors
    ///
    /// What the system says when asked who holds the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_queue::Queue;
    ///
    /// #[process_fn]
    /// fn answer(answers: Queue<u32>) {
    ///     answers.put(42).expect("the parent has it");
    /// }
    ///
    /// let (first, second) = (Queue::<u32>::new()?, Queue::<u32>::new()?);
    /// let child = answer::spawn(second.clone())?;
    /// let ready = mp_core::wait(&[&first.readable()?, &second.readable()?], None)?;
    /// assert_eq!((ready, second.try_get()?), (vec![1], Some(42)));
    /// child.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readable(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.memory().watch_items(R::PRODUCERS)?.as_fd())
    }
}

/// An iterator over the values of a queue, which waits for each; see
/// [`Queue::iter`].
pub struct Iter<'a, T, R: Role = Both> {
    queue: &'a Queue<T, R>,
    ended: bool,
}

impl<T: DeserializeOwned, R: Gets> Iterator for Iter<'_, T, R> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.queue.get() {
            Err(GetError::Closed | GetError::Disconnected) => {
                self.ended = true;
                None
            }
            result => {
                self.ended = matches!(result, Err(GetError::Damaged(_)));
                Some(result)
            }
        }
    }
}

impl<T, R: Role> fmt::Debug for Iter<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<'a, T: DeserializeOwned, R: Gets> IntoIterator for &'a Queue<T, R> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T, R>;

    fn into_iter(self) -> Iter<'a, T, R> {
        self.iter()
    }
}
