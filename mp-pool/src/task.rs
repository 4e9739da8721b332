//! A task, as the program that submitted it knows it.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mp_core::raw::Deadline;
use mp_core::{DecodeError, Receiver, pipe};
use serde::de::{DeserializeOwned, Error};

use crate::batch::{Decoder, Delivery, Ends};
use crate::error::TaskError;
use crate::later::Later;
use crate::scheduler::Scheduler;
use crate::slot::Slot;

fn decode<R: DeserializeOwned>(ends: Ends) -> Result<R, TaskError> {
    let one = Delivery { first: 0, count: 1, ends };
    Decoder::new(one).next().map_or(Err(TaskError::PoolClosed), |(_, result)| result)
}

/// A task of a [`Pool`](crate::Pool), which will have a value.
///
/// Tasks can be joined in any order, from any thread, or awaited, on any executor. Dropping a task
/// lets it run, and its value is lost; [`cancel_on_drop`](Self::cancel_on_drop) changes that. A
/// task is a future: awaiting it is joining it. It needs neither a thread nor a feature of this
/// crate.
///
/// # Process death
///
/// If the task's worker dies, joining says so: [`TaskError::Crashed`]. If the pool ends first,
/// [`TaskError::PoolClosed`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_core::process_fn;
/// use mp_pool::Pool;
///
/// #[process_fn]
/// fn double(number: i32) -> i32 {
///     number * 2
/// }
///
/// let pool = Pool::new(1)?;
/// let mut task = pool.submit(double::call(21));
/// let value = loop {
///     if let Some(value) = task.join_timeout(Duration::from_secs(1))? {
///         break value;
///     }
/// };
/// assert_eq!(value, 42);
///
/// # pollster::block_on(async {
/// assert_eq!(pool.submit(double::call(4)).await?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the value of a task that is dropped is lost"]
pub struct Task<R> {
    slot: Arc<Slot>,
    scheduler: Arc<Scheduler>,
    cancel_on_drop: bool,
    value: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    pub(crate) fn new(slot: Arc<Slot>, scheduler: Arc<Scheduler>) -> Self {
        Self { slot, scheduler, cancel_on_drop: false, value: PhantomData }
    }

    /// Tells whether the task has ended, with a value or without.
    pub fn is_done(&self) -> bool {
        self.slot.is_done()
    }

    /// The same as [`is_done`](Self::is_done), by the name that std's `JoinHandle` and
    /// [`Process`](mp_core::Process::is_finished) have for it.
    pub fn is_finished(&self) -> bool {
        self.is_done()
    }

    /// Ends the task if it has not ended by itself: it gets [`TaskError::Cancelled`]. If it was
    /// running, its worker is killed and replaced. Returns false if the task had ended before.
    pub fn cancel(&self) -> bool {
        self.scheduler.cancel(&self.slot)
    }

    /// Sets whether dropping this [cancels](Self::cancel) the task. By default it does not.
    pub fn cancel_on_drop(mut self, cancel: bool) -> Self {
        self.cancel_on_drop = cancel;
        self
    }

    /// Makes a descriptor that is readable when the task has ended, for [`mp_core::wait`].
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{process_fn, wait};
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn double(number: i32) -> i32 {
    ///     number * 2
    /// }
    ///
    /// let pool = Pool::new(1)?;
    /// let (one, other) = (pool.submit(double::call(1)), pool.submit(double::call(2)));
    /// let (first, second) = (one.sentinel()?, other.sentinel()?);
    /// let ready = wait(&[&first, &second], None)?;
    /// assert!(ready.iter().all(|index| [&one, &other][*index].is_done()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sentinel(&self) -> io::Result<Sentinel> {
        let mut inner = self.slot.inner();
        if let Some((_, receiver)) = &inner.sentinel {
            return Ok(Sentinel(Arc::clone(receiver)));
        }
        let (sender, receiver) = pipe()?;
        let receiver = Arc::new(receiver);
        if !self.slot.is_done() {
            inner.sentinel = Some((sender, Arc::clone(&receiver)));
        }
        Ok(Sentinel(receiver))
    }
}

/// Readable when a task has ended: what [`Task::sentinel`] returns.
#[derive(Clone, Debug)]
pub struct Sentinel(Arc<Receiver<()>>);

impl AsFd for Sentinel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<R: DeserializeOwned> Task<R> {
    /// Waits until the task has ended, and returns its value.
    ///
    /// # Errors
    ///
    /// [`TaskError`] says what there is instead of a value.
    pub fn join(mut self) -> Result<R, TaskError> {
        // Without a deadline there is always an end: the pool finishes every task before it is
        // gone.
        self.join_until(None).and_then(|value| value.ok_or(TaskError::PoolClosed))
    }

    /// Waits until the task has ended, for `timeout` at most; `None` means that it still runs, and
    /// may be asked again.
    ///
    /// The value is returned once; after it, and after an error, the answer is
    /// [`TaskError::AlreadyJoined`].
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, TaskError> {
        self.join_until(Some(timeout))
    }

    /// Returns the value if the task has ended, without waiting.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    pub fn try_join(&mut self) -> Result<Option<R>, TaskError> {
        self.join_timeout(Duration::ZERO)
    }

    fn join_until(&mut self, timeout: Option<Duration>) -> Result<Option<R>, TaskError> {
        if self.scheduler.is_copy() {
            return Err(TaskError::Forked);
        }
        let deadline = Deadline::from_timeout(timeout);
        self.scheduler.look_while(deadline, || !self.slot.is_done());
        // A deadline that is too far away to be represented is none.
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if timeout.is_some_and(|timeout| timeout.is_zero()) && !self.slot.is_done() || !self.slot.wait(until) {
            return Ok(None);
        }
        decode(self.slot.take()?).map(Some)
    }

    /// Calls `callback` with the value, or with what there is instead, when the task has
    /// ended.
    ///
    /// The callbacks of a pool run one after another, on a thread that is there for nothing else. A
    /// callback that waits holds up the callbacks behind it, and one that panics ends itself alone;
    /// no task notices either. A value whose `Deserialize` panics is [`TaskError::Decode`] here.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn double(number: i32) -> i32 {
    ///     number * 2
    /// }
    ///
    /// let pool = Pool::new(1)?;
    /// let (sender, receiver) = mpsc::channel();
    /// pool.submit(double::call(21)).on_done(move |value| sender.send(value).unwrap());
    /// assert_eq!(receiver.recv()??, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_done(mut self, callback: impl FnOnce(Result<R, TaskError>) + Send + 'static) {
        self.cancel_on_drop = false;
        let callback = move |ends: Ends| {
            let decoded = catch_unwind(AssertUnwindSafe(|| decode(ends)));
            callback(decoded.unwrap_or_else(|_| Err(TaskError::Decode(DecodeError::custom("decoding it panicked")))));
        };
        let mut inner = self.slot.inner();
        if !self.slot.is_done() {
            inner.callback = Some(Box::new(callback));
            return;
        }
        let ends = inner.ends.take().unwrap_or(Ends::Failed(TaskError::AlreadyJoined));
        drop(inner);
        self.scheduler.run_later(Later::Call(Box::new(move || callback(ends))));
    }
}

impl<R: DeserializeOwned> Future for Task<R> {
    type Output = Result<R, TaskError>;

    /// After it was ready, the answer is [`TaskError::AlreadyJoined`].
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.scheduler.is_copy() {
            return Poll::Ready(Err(TaskError::Forked));
        }
        if self.slot.wakes(context.waker().clone()) {
            return Poll::Pending;
        }
        Poll::Ready(self.slot.take().and_then(decode))
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if self.cancel_on_drop && !self.is_done() {
            self.cancel();
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
