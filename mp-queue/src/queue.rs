//! The queue.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(doc)]
use crate::error::{GetError, PutErrorReason};
use crate::holder::Holder;
use crate::memory::{Memory, Purpose};
use crate::role::{Both, Get, Put, Role};

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
pub struct Queue<T, R: Role = Both> {
    holder: Holder<R>,
    values: PhantomData<fn(T) -> T>,
}

/// The half of a [`Queue`] that puts.
///
/// [`Queue::producer`] makes one. While only halves exist, each side learns
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
pub type Producer<T> = Queue<T, Put>;

/// The half of a [`Queue`] that gets.
///
/// [`Queue::consumer`] makes one. While only halves exist, each side learns
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
pub type Consumer<T> = Queue<T, Get>;

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
    /// that made or received it, however often the process clones it; [the front page](crate) says
    /// when it takes more.
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
        Self::of(Memory::create(items, bytes, Purpose::Queue)?)
    }

    /// Makes a queue for at most `items` values that counts tasks.
    pub(crate) fn joinable(items: usize, bytes: usize) -> io::Result<Self> {
        Self::of(Memory::create(items, bytes, Purpose::Joinable)?)
    }

    fn of(memory: Memory) -> io::Result<Self> {
        Holder::new(Arc::new(memory)).map(Self::from_holder)
    }

    /// Returns a handle that puts only.
    pub fn producer(&self) -> Producer<T> {
        Queue::from_holder(self.holder.with_role())
    }

    /// Returns a handle that gets only.
    pub fn consumer(&self) -> Consumer<T> {
        Queue::from_holder(self.holder.with_role())
    }

    /// Splits the handle into its halves.
    pub fn into_split(self) -> (Producer<T>, Consumer<T>) {
        (self.producer(), self.consumer())
    }
}

/// Of every handle: [`Queue`], [`Producer`] and [`Consumer`].
impl<T, R: Role> Queue<T, R> {
    fn from_holder(holder: Holder<R>) -> Self {
        Self { holder, values: PhantomData }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.holder
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
    /// A put that has returned `Ok` is never lost by it. One that had begun before may still
    /// succeed, and gets wait for it before they report the end. Closing again does nothing.
    pub fn close(&self) {
        self.memory().close();
    }

    /// Tells whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.memory().is_closed()
    }
}

impl<T, R: Role> Clone for Queue<T, R> {
    fn clone(&self) -> Self {
        Self::from_holder(self.holder.with_role())
    }
}

impl<T, R: Role> Serialize for Queue<T, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.holder.serialize(serializer)
    }
}

impl<'de, T, R: Role> Deserialize<'de> for Queue<T, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Holder::deserialize(&[Purpose::Queue, Purpose::Joinable], deserializer).map(Self::from_holder)
    }
}

impl<T, R: Role> fmt::Debug for Queue<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(match (R::PRODUCERS, R::CONSUMERS) {
            (1, 0) => "Producer",
            (0, 1) => "Consumer",
            _ => "Queue",
        })
        .field("len", &self.len())
        .field("capacity", &self.capacity())
        .field("is_closed", &self.is_closed())
        .finish()
    }
}
