//! The queue.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::consumer::{Consumer, Iter};
#[cfg(doc)]
use crate::error::PutErrorReason;
use crate::error::{GetError, GetManyError, PutError, PutManyError};
use crate::holder::Holder;
use crate::memory::{Memory, Side};
use crate::producer::Producer;

/// A bounded queue between any number of producers and consumers, in any processes and threads.
///
/// A queue is a value: clone it, send it in arguments, results, pipes and other queues. All handles
/// are one queue. Values come out in the order in which they were put; each goes to one consumer.
/// [`put`](Self::put) waits while the queue is full, and [`get`](Self::get) while it is empty.
///
/// A value is copied, in encoded form, into memory that the processes share, and out of it. Neither
/// makes a system call, unless a process waits on the other side. Values that hold descriptors, and
/// those whose encoded form is longer than half the memory, keep their place in the order and
/// travel beside it.
///
/// # Process death
///
/// A producer that is killed in the middle of a put leaves nothing behind, and a consumer that is
/// killed in the middle of a get leaves the value to the next one, or has taken it with it; no
/// other value is lost, and no other process waits longer for it. The kernel frees the memory with
/// the last handle, in a process or in a message.
///
/// The kernel also knows which processes hold a queue, so nobody has to say goodbye. When this
/// handle has become the only one, after the queue was sent to other processes, nobody can put: on
/// an empty queue [`get`](Self::get) returns [`GetError::Disconnected`], and on a full one
/// [`put`](Self::put) returns [`PutErrorReason::Disconnected`]. A waiting call learns of a process
/// that was killed within 100 ms, of one that dropped its handle at once. References to one handle
/// count as one; threads that are to wait for each other's values share a queue that was never
/// sent, or have a clone each. The halves [`Producer`] and [`Consumer`] count for their side only:
/// with them the end is exact, as with the channels of std.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_queue::Queue;
///
/// #[process_fn]
/// fn square(numbers: Queue<u64>, squares: Queue<u64>) {
///     for number in numbers.iter() {
///         let number = number.expect("the parent puts numbers");
///         squares.put(number * number).expect("the parent gets them");
///     }
/// }
///
/// let (numbers, squares) = (Queue::bounded(16)?, Queue::bounded(16)?);
/// let workers = [
///     square::spawn(numbers.clone(), squares.clone())?,
///     square::spawn(numbers.clone(), squares.clone())?,
/// ];
/// for number in 0..10 {
///     numbers.put(number)?;
/// }
/// numbers.close();
/// let mut sum = 0;
/// for _ in 0..10 {
///     sum += squares.get()?;
/// }
/// assert_eq!(sum, 285);
/// for worker in workers {
///     worker.join()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T> {
    producer: Producer<T>,
    consumer: Consumer<T>,
}

/// The memory of a queue that nobody asked for another one, in bytes.
pub(crate) const DEFAULT: usize = 4 << 20;

/// What a value may take, at least, in a queue that is bounded by their number, in bytes.
const EACH: usize = 256;

impl<T> Queue<T> {
    /// Makes a queue with 4 MiB of memory, for any number of values.
    ///
    /// The kernel allocates the memory as it is first used. A queue that is mostly empty uses the
    /// first 64 KiB again and again.
    ///
    /// # Errors
    ///
    /// Descriptors, memory or address space ran out. A queue takes five descriptors in each process
    /// that made or received it, however often the process clones it.
    pub fn new() -> io::Result<Self> {
        Self::create(usize::MAX, DEFAULT)
    }

    /// Makes a queue for at most `items` values: the next put waits. 0 counts as 1.
    ///
    /// It has memory for 256 bytes an item, and 4 MiB at least. Where the values are longer the
    /// queue may be full with fewer of them. Use [`with_bytes`](Self::with_bytes) to choose.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`InvalidInput`](io::ErrorKind::InvalidInput) if that is more
    /// than 8 GiB.
    pub fn bounded(items: usize) -> io::Result<Self> {
        Self::create(items, Self::bytes_for(items))
    }

    /// Makes a queue with `bytes` of memory, rounded up to a power of two, for any number of
    /// values.
    ///
    /// A value takes its encoded form, rounded up to 8 bytes, and 8 bytes more. One of more than
    /// half the memory takes 16 bytes, and travels in memory of its own.
    ///
    /// # Errors
    ///
    /// As [`bounded`](Self::bounded).
    pub fn with_bytes(bytes: usize) -> io::Result<Self> {
        Self::create(usize::MAX, bytes)
    }

    /// The memory of a queue for so many values.
    pub(crate) fn bytes_for(items: usize) -> usize {
        DEFAULT.max(items.saturating_mul(EACH))
    }

    fn create(items: usize, bytes: usize) -> io::Result<Self> {
        Self::of(Memory::create(items, bytes, false)?)
    }

    /// Makes a queue for at most `items` values that counts tasks.
    pub(crate) fn joinable(items: usize, bytes: usize) -> io::Result<Self> {
        Self::of(Memory::create(items, bytes, true)?)
    }

    fn of(memory: Memory) -> io::Result<Self> {
        let memory = Arc::new(memory);
        let producer = Holder::new(Arc::clone(&memory), Side::Producers)?;
        let consumer = Holder::new(memory, Side::Consumers)?;
        Ok(Self { producer: Producer::new(producer, 1), consumer: Consumer::new(consumer, 1) })
    }

    pub(crate) fn memory(&self) -> &Memory {
        self.consumer.holder.memory()
    }

    /// Returns a handle that puts only.
    pub fn producer(&self) -> Producer<T> {
        Producer::new(self.producer.holder.clone(), 0)
    }

    /// Returns a handle that gets only.
    pub fn consumer(&self) -> Consumer<T> {
        Consumer::new(self.consumer.holder.clone(), 0)
    }

    /// Splits the handle into its halves.
    pub fn into_split(self) -> (Producer<T>, Consumer<T>) {
        (self.producer(), self.consumer())
    }

    /// Returns the number of values in the queue. It may have changed when this returns.
    pub fn len(&self) -> usize {
        self.memory().len()
    }

    /// Tells whether the queue is empty. It may have changed when this returns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether a put of a small value would wait. It may have changed when this returns.
    pub fn is_full(&self) -> bool {
        self.memory().is_full()
    }

    /// Returns the most values that the queue holds: what [`bounded`](Self::bounded) was given, or
    /// what fits into the memory if each takes one byte.
    pub fn capacity(&self) -> usize {
        self.memory().capacity()
    }

    /// Returns the size of the queue's memory in bytes.
    pub fn capacity_in_bytes(&self) -> usize {
        self.memory().size()
    }

    /// Closes the queue for all handles: puts fail, gets return what is left and then
    /// [`GetError::Closed`], and calls that wait return.
    ///
    /// A put that has returned `Ok` is never lost by it. Closing again does nothing.
    pub fn close(&self) {
        self.memory().close();
    }

    /// Tells whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.memory().is_closed()
    }

    /// Returns a descriptor that is readable while a [`get`](Self::get) would not wait, for
    /// [`mp_core::wait`] and poll(2). Call this again before each wait.
    ///
    /// It is a hint: another consumer may be faster, so use [`try_get`](Self::try_get) then.
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
        self.memory().watch_items(1)?;
        Ok(self.memory().items_event.as_fd())
    }

    /// Returns a descriptor that is **readable** while a [`put`](Self::put) of a small value would
    /// not wait, for [`mp_core::wait`] and poll(2). Call this again before each wait.
    ///
    /// It is a hint: another producer may be faster, so use [`try_put`](Self::try_put) then.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable).
    pub fn writable(&self) -> io::Result<BorrowedFd<'_>> {
        self.memory().watch_space(0, 1)?;
        Ok(self.memory().space_event.as_fd())
    }
}

impl<T: Serialize> Queue<T> {
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
        self.producer.put(value)
    }

    /// Puts `value` at the end if the queue has room now.
    ///
    /// While another process is in the middle of a put, this waits for it, at most 10 ms.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutErrorReason::Full`].
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.producer.try_put(value)
    }

    /// Puts `value` at the end, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutErrorReason::TimedOut`].
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.producer.put_timeout(value, timeout)
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
        self.producer.put_many(values)
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
        self.producer.put_async(value).await
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the value at the front, waiting while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] and [`GetError::Disconnected`] once the queue is empty;
    /// [`GetError::Decode`] for a value that is no `T`, which is lost, and the queue goes on;
    /// [`GetError::Io`].
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        self.consumer.get()
    }

    /// Gets the value at the front if there is one now.
    ///
    /// While another process is in the middle of a get, this waits for it, at most 10 ms. It finds
    /// nothing while another consumer waits, which the next value belongs to.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn try_get(&self) -> Result<Option<T>, GetError> {
        self.consumer.try_get()
    }

    /// Gets the value at the front, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>, GetError> {
        self.consumer.get_timeout(timeout)
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
        self.consumer.get_many(most)
    }

    /// Gets all values that are in the queue, without waiting.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many).
    pub fn drain(&self) -> Result<Vec<T>, GetManyError<T>> {
        self.consumer.drain()
    }

    /// Iterates over the values, waiting for each. The iteration ends when [`get`](Self::get) would
    /// return [`GetError::Closed`] or [`GetError::Disconnected`].
    pub fn iter(&self) -> Iter<'_, T> {
        self.consumer.iter()
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
        self.consumer.get_async().await
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { producer: self.producer.clone(), consumer: self.consumer.clone() }
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory().serialize(&[Side::Producers, Side::Consumers], serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Memory::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}
