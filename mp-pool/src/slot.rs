//! How one task ends, and who waits for that.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use mp_core::{Receiver, Sender};

use crate::batch::Ends;
use crate::error::TaskError;
use crate::later::{Later, Sleeper};

/// Where the scheduler puts how one task ended.
pub(crate) struct Slot {
    /// How many tasks of its function were submitted before.
    index: u64,
    done: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) ends: Option<Ends>,
    pub(crate) waker: Option<Waker>,
    pub(crate) callback: Option<Box<dyn FnOnce(Ends) + Send>>,
    /// Closed when the task ends.
    pub(crate) sentinel: Option<(Sender<()>, Arc<Receiver<()>>)>,
}

impl Slot {
    pub(crate) fn new(index: u64) -> Self {
        Self { index, done: AtomicBool::new(false), inner: Mutex::default() }
    }

    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the task ended, unless it has ended already. Whoever waits for it is left to be
    /// woken by the caller.
    pub(crate) fn finish(&self, ends: Ends) -> Option<Later> {
        let mut inner = self.inner();
        if self.done.swap(true, Ordering::Release) {
            return None;
        }
        let sentinel = inner.sentinel.take();
        let later = match (inner.callback.take(), inner.waker.take()) {
            (Some(callback), _) => Some(Later::Call(Box::new(move || callback(ends)))),
            (None, waker) => {
                inner.ends = Some(ends);
                waker.map(Later::Wake)
            }
        };
        drop(inner);
        drop(sentinel);
        later
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Has `waker` woken when the task ends, in place of the one before; false if it has ended.
    pub(crate) fn wakes(&self, waker: Waker) -> bool {
        let mut inner = self.inner();
        if self.is_done() {
            return false;
        }
        let before = inner.waker.replace(waker);
        // Code of others is not run under the lock.
        drop(inner);
        drop(before);
        true
    }

    /// Waits until the task has ended; false at the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        if self.is_done() {
            return true;
        }
        let sleeper = Arc::new(Sleeper::default());
        !self.wakes(Arc::clone(&sleeper).into()) || sleeper.sleep(deadline)
    }

    pub(crate) fn take(&self) -> Result<Ends, TaskError> {
        self.inner().ends.take().ok_or(TaskError::AlreadyJoined)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
