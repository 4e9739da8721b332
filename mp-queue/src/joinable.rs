//! A queue that counts tasks.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use mp_sync::futex::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{JoinError, TooManyTasksDone};
use crate::memory::Purpose;
use crate::queue::{DEFAULT, Queue};

/// A [`Queue`] of tasks, which knows when all of them are done.
///
/// It has every method of [`Queue`]. Each value that is put is a task. Whoever gets it calls
/// [`task_done`](Self::task_done) when the task is done, and [`join`](Self::join) waits until that
/// is so for all of them. A value that could not be decoded is a task as well.
///
/// # Process death
///
/// A task whose process died between [`get`](Queue::get) and [`task_done`](Self::task_done) stays
/// undone, and [`join`](Self::join) returns [`JoinError::Abandoned`] with the number of such tasks,
/// within 100 ms. It does so again until somebody has done them, or given them up: by
/// [`task_done`](Self::task_done), once for each. Which process holds a task is known as long as
/// the process that got a task is the one that reports it done, and no more than 1,024 processes
/// get tasks; otherwise `join` notices when no consumer is left.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_queue::{JoinError, JoinableQueue};
///
/// #[process_fn]
/// fn work(tasks: JoinableQueue<u32>) {
///     for task in tasks.iter() {
///         if task.expect("a number") == 13 {
///             std::process::abort();
///         }
///         tasks.task_done().expect("it was gotten");
///     }
/// }
///
/// let tasks = JoinableQueue::bounded(100)?;
/// tasks.put_many([11, 12])?;
/// let worker = work::spawn(tasks.clone())?;
/// tasks.join()?;
///
/// tasks.put(13)?;
/// assert!(matches!(tasks.join(), Err(JoinError::Abandoned { tasks: 1 })));
/// tasks.task_done()?; // nobody will do it
/// tasks.join()?;
/// assert!(worker.join().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JoinableQueue<T> {
    queue: Queue<T>,
}

impl<T> JoinableQueue<T> {
    /// Makes a queue with 4 MiB of memory; see [`Queue::new`].
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: Queue::joinable(usize::MAX, DEFAULT)? })
    }

    /// Makes a queue for at most `items` values that nobody has gotten; see [`Queue::bounded`].
    ///
    /// # Errors
    ///
    /// As [`Queue::bounded`].
    pub fn bounded(items: usize) -> io::Result<Self> {
        Ok(Self { queue: Queue::joinable(items, Queue::<T>::bytes_for(items))? })
    }

    /// Makes a queue with `bytes` of memory; see [`Queue::with_bytes`].
    ///
    /// # Errors
    ///
    /// As [`Queue::with_bytes`].
    pub fn with_bytes(bytes: usize) -> io::Result<Self> {
        Ok(Self { queue: Queue::joinable(usize::MAX, bytes)? })
    }

    /// Reports one task done, in the process that got it.
    ///
    /// # Errors
    ///
    /// It was called more often than values were gotten, by all processes together.
    pub fn task_done(&self) -> Result<(), TooManyTasksDone> {
        self.queue.memory().task_done()
    }

    /// Returns the number of tasks that were put and are not done.
    pub fn unfinished(&self) -> usize {
        self.queue.memory().unfinished() as usize
    }

    /// Waits until all tasks that were put are done.
    ///
    /// # Errors
    ///
    /// [`JoinError::Abandoned`] for tasks whose processes died. [`JoinError::Disconnected`] if
    /// tasks are left and this handle is the only one, after the queue was sent to other processes.
    pub fn join(&self) -> Result<(), JoinError> {
        self.queue.memory().join(Deadline::NEVER).map(drop)
    }

    /// Waits until all tasks that were put are done, no longer than `timeout`. Returns whether they
    /// are.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, JoinError> {
        self.queue.memory().join(Deadline::after(timeout))
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.queue
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.queue.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let queue = Queue::deserialize(deserializer)?;
        if queue.memory().purpose == Purpose::Joinable {
            Ok(Self { queue })
        } else {
            Err(serde::de::Error::custom("the queue is not one that counts tasks"))
        }
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue").field("unfinished", &self.unfinished()).field("queue", &self.queue).finish()
    }
}
