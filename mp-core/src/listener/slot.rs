//! A mutex whose lock can be waited for with a deadline.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::sys::poll::Deadline;

/// What one thread has at a time, however long, and others wait for until their own deadlines.
pub(super) struct Slot<T> {
    /// Whether a thread has it.
    taken: Mutex<bool>,
    given_back: Condvar,
    /// Locked only by the thread that has it.
    value: Mutex<T>,
}

impl<T> Slot<T> {
    pub(super) fn new(value: T) -> Self {
        Self { taken: Mutex::new(false), given_back: Condvar::new(), value: Mutex::new(value) }
    }

    /// Takes the value; `None` if others had it until the deadline.
    pub(super) fn take(&self, deadline: Deadline) -> Option<Taken<'_, T>> {
        let mut taken = self.taken();
        while *taken {
            taken = match deadline.left() {
                None => self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => self.given_back.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        *taken = true;
        // Nothing that has it panics, and it would be whole if it did: see `framing`.
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Taken { value, _turn: Turn { slot: self } })
    }

    fn taken(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a [`Slot`]. Dropping it lets the next thread have it.
pub(super) struct Taken<'a, T> {
    // Dropped in this order.
    value: MutexGuard<'a, T>,
    _turn: Turn<'a, T>,
}

struct Turn<'a, T> {
    slot: &'a Slot<T>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        *self.slot.taken() = false;
        self.slot.given_back.notify_one();
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
