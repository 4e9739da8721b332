//! What the pool's threads tell the thread of rank 0 that calls MPI.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::letter::{Body, ToRank};

/// Letters that were not sent.
#[derive(Default)]
pub(crate) struct Outbox {
    letters: Mutex<VecDeque<(usize, ToRank, Body)>>,
    /// The thread sleeps, or is about to.
    sleeps: AtomicBool,
    thread: Mutex<Option<Thread>>,
    /// The pool has ended.
    ends: AtomicBool,
}

impl Outbox {
    /// Takes in a letter for a rank. It does not wait.
    pub(crate) fn send(&self, rank: usize, what: ToRank, body: Body) {
        lock(&self.letters).push_back((rank, what, body));
        self.wake();
    }

    /// Says which thread calls MPI.
    pub(crate) fn wakes(&self, thread: Thread) {
        *lock(&self.thread) = Some(thread);
    }

    /// Says that the pool has ended.
    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        if self.sleeps.swap(false, Ordering::SeqCst) {
            if let Some(thread) = &*lock(&self.thread) {
                thread.unpark();
            }
        }
    }

    pub(crate) fn take(&self) -> VecDeque<(usize, ToRank, Body)> {
        std::mem::take(&mut *lock(&self.letters))
    }

    pub(crate) fn sleep(&self, length: Duration) {
        self.sleeps.store(true, Ordering::SeqCst);
        if lock(&self.letters).is_empty() && !self.has_ended() {
            std::thread::park_timeout(length);
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
