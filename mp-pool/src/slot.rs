//! How one task ends, and who waits for that.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use mp_core::{Receiver, Sender};

use crate::batch::Ends;
use crate::error::TaskError;
use crate::later::Later;

/// Where the scheduler puts how one task ended.
pub(crate) struct Slot {
    /// How many tasks of its function were submitted before.
    index: u64,
    done: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
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
        Self { index, done: AtomicBool::new(false), inner: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the task ended, unless it has ended already. Code of the user's is left to be run
    /// by the caller.
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
        self.changed.notify_all();
        later
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until the task has ended; false at the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut inner = self.inner();
        while !self.is_done() {
            inner = match deadline {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
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
