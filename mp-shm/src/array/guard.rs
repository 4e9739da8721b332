//! The elements, as long as the lock is held.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;

use mp_sync::MutexGuard;

use super::Array;

/// The lock of an [`Array`], held by this thread, and the elements. Dropping it lets go of the
/// lock.
///
/// If it is dropped by a panic that began while it was held, the lock is poisoned:
/// [`LockError::OwnerDied`](mp_sync::LockError::OwnerDied).
#[must_use = "the lock is let go when the guard is dropped"]
pub struct ArrayGuard<'a, T> {
    lock: MutexGuard<'a, ()>,
    array: &'a Array<T>,
    /// What it lends, and to which threads.
    elements: PhantomData<&'a mut [T]>,
}

impl<'a, T> ArrayGuard<'a, T> {
    /// For the lock of that very array.
    #[inline]
    pub(super) fn new(array: &'a Array<T>, lock: MutexGuard<'a, ()>) -> Self {
        Self { lock, array, elements: PhantomData }
    }

    /// Says that the elements are in order again: the next owner is told of no death.
    pub fn mark_consistent(&mut self) {
        self.lock.mark_consistent();
    }
}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many are there, mapped for as long as the array is, and values of `T: ShmSafe`
        // since before anybody else had the memory. The lock is held, so nobody changes them while
        // they are lent.
        unsafe { slice::from_raw_parts(self.array.elements(), self.array.len()) }
    }
}

impl<T> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the guard is lent exclusively, so nobody else in this thread has
        // them.
        unsafe { slice::from_raw_parts_mut(self.array.elements(), self.array.len()) }
    }
}

impl<T: fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
