//! What a handle may do.

use crate::memory::Side;
use crate::queue::Queue;

mod sealed {
    pub trait Sealed {}
}

/// What a handle of a queue may do: [`Both`], [`Put`] or [`Get`].
pub trait Role: sealed::Sealed + 'static {
    /// How many producers the handle is: 0 or 1.
    const PRODUCERS: usize;
    /// How many consumers the handle is: 0 or 1.
    const CONSUMERS: usize;
}

/// A handle that may put.
pub trait Puts: Role {}

/// A handle that may get.
pub trait Gets: Role {}

/// A handle that may put and get.
#[derive(Debug)]
pub enum Both {}

/// A handle that may put.
#[derive(Debug)]
pub enum Put {}

/// A handle that may get.
#[derive(Debug)]
pub enum Get {}

impl sealed::Sealed for Both {}
impl sealed::Sealed for Put {}
impl sealed::Sealed for Get {}

impl Role for Both {
    const PRODUCERS: usize = 1;
    const CONSUMERS: usize = 1;
}

impl Role for Put {
    const PRODUCERS: usize = 1;
    const CONSUMERS: usize = 0;
}

impl Role for Get {
    const PRODUCERS: usize = 0;
    const CONSUMERS: usize = 1;
}

impl Puts for Both {}
impl Puts for Put {}
impl Gets for Both {}
impl Gets for Get {}

/// The sides to which a handle belongs.
pub(crate) fn sides<R: Role>() -> impl Iterator<Item = Side> {
    let sides = [(Side::Producers, R::PRODUCERS), (Side::Consumers, R::CONSUMERS)];
    sides.into_iter().filter(|(_, count)| *count > 0).map(|(side, _)| side)
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
