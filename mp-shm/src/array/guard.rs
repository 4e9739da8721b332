//! The guard of an array's lock.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;

use mp_sync::MutexGuard;
use mp_sync::futex::LockGuard;

use super::Array;

/// Holds the lock of an [`Array`] and lends its elements. Dropping it releases the lock.
///
/// If a panic that began while the lock was held drops it, the lock is poisoned: later owners get
/// [`LockError::OwnerDied`](mp_sync::LockError::OwnerDied).
#[must_use = "dropping the guard releases the lock"]
pub struct ArrayGuard<'a, T> {
    lock: MutexGuard<'a, ()>,
    array: &'a Array<T>,
    /// Determines which threads may use the guard.
    elements: PhantomData<&'a mut [T]>,
}

impl<'a, T> ArrayGuard<'a, T> {
    /// `lock` is the guard of the lock of `array`.
    #[inline]
    pub(super) fn new(array: &'a Array<T>, lock: MutexGuard<'a, ()>) -> Self {
        Self { lock, array, elements: PhantomData }
    }

    /// Marks the elements as repaired: later owners get no error.
    pub fn mark_consistent(&mut self) {
        self.lock.mark_consistent();
    }
}

impl<T> LockGuard for ArrayGuard<'_, T> {}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: this many elements are mapped as long as the array exists. They were valid values
        // of `T: ShmSafe` before any other process had the memory. The lock is held, so no thread
        // changes them while they are lent.
        unsafe { slice::from_raw_parts(self.array.elements(), self.array.len()) }
    }
}

impl<T> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the guard is borrowed exclusively, so there is no other reference
        // to them.
        unsafe { slice::from_raw_parts_mut(self.array.elements(), self.array.len()) }
    }
}

impl<T: fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
