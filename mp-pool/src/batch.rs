//! Many tasks whose results are wanted as they come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::task::Finished;

/// Where the scheduler puts how the tasks of one map ended, with their index.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    finished: Mutex<VecDeque<(usize, Finished)>>,
    changed: Condvar,
}

impl Batch {
    fn finished(&self) -> MutexGuard<'_, VecDeque<(usize, Finished)>> {
        // Nothing panics under the lock.
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finish(&self, index: usize, finished: Finished) {
        self.finished().push_back((index, finished));
        self.changed.notify_one();
    }

    /// Takes the next one, waiting for it. The caller knows that one is coming.
    pub(crate) fn take(&self) -> (usize, Finished) {
        let mut finished = self.finished();
        loop {
            match finished.pop_front() {
                Some(next) => return next,
                None => finished = self.changed.wait(finished).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
