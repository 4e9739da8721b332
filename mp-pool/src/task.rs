//! The value of one task, which will be there when the task is done.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mp_core::raw::Outcome;
use serde::de::DeserializeOwned;

use crate::error::TaskError;

/// How a task ended, before anyone has looked at its value.
pub(crate) type Finished = Result<Outcome, TaskError>;

/// Where the scheduler puts how one task ended.
#[derive(Debug, Default)]
pub(crate) struct TaskSlot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Running,
    Finished(Finished),
    Taken,
}

impl TaskSlot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finish(&self, finished: Finished) {
        *self.state() = State::Finished(finished);
        self.changed.notify_all();
    }

    /// Takes how the task ended; `None` if it has not by the deadline. Without a deadline it waits
    /// for it.
    fn take(&self, deadline: Option<Instant>) -> Option<Finished> {
        let mut state = self.state();
        while let State::Running = *state {
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Finished(finished) => Some(finished),
            _ => Some(Err(TaskError::AlreadyJoined)),
        }
    }

    fn is_done(&self) -> bool {
        !matches!(*self.state(), State::Running)
    }
}

/// A task of a [`Pool`](crate::Pool), which will have a value.
///
/// Dropping it lets the task run; its value is lost. Tasks can be joined in any order, from any
/// thread.
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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the value of a task that is dropped is lost"]
pub struct Task<R> {
    slot: Arc<TaskSlot>,
    value: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    pub(crate) fn new(slot: Arc<TaskSlot>) -> Self {
        Self { slot, value: PhantomData }
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
}

impl<R: DeserializeOwned> Task<R> {
    /// Waits until the task has ended, and returns its value.
    ///
    /// # Errors
    ///
    /// [`TaskError`] says what there is instead of a value.
    pub fn join(self) -> Result<R, TaskError> {
        // Without a deadline there is always an end: the pool finishes every task before it is
        // gone.
        self.slot.take(None).map_or(Err(TaskError::PoolClosed), decode)
    }

    /// Waits until the task has ended, for `timeout` at most; `None` means that it still runs, and
    /// may be asked again.
    ///
    /// The value can be had once; after it, and after an error, the answer is
    /// [`TaskError::AlreadyJoined`].
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, TaskError> {
        // A deadline that is too far away to be represented is none.
        self.slot.take(Instant::now().checked_add(timeout)).map(decode).transpose()
    }

    /// Returns the value if the task has ended, without waiting.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    pub fn try_join(&mut self) -> Result<Option<R>, TaskError> {
        self.join_timeout(Duration::ZERO)
    }
}

/// Decodes in the thread that asks, not in the scheduler's.
pub(crate) fn decode<R: DeserializeOwned>(finished: Finished) -> Result<R, TaskError> {
    Ok(finished?.decode()?)
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
