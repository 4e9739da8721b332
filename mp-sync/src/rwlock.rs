//! `RwLock`: the raw readers-writer lock and the value that it protects.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::{Deref, DerefMut};
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::error::LockGuard;
use crate::raw::mutex::Refused;
use crate::raw::rwlock::{Entered, RawRwLock};

/// A readers-writer lock and the value that it protects, for the threads of all processes that
/// share its memory.
///
/// It has no pointers. Put it in memory that several processes have mapped, registered as a
/// [`SharedRegion`](crate::SharedRegion) in each, or in an ordinary `static` or `Arc` between
/// threads. Python's `multiprocessing` has no counterpart.
///
/// # Readers
///
/// Each reading thread holds a *slot*, which the kernel frees if the thread dies. The number of
/// slots is `READERS`, a multiple of 4 up to 128, by default 32. Further readers wait for the turn
/// and a free slot; later callers do not overtake the one that has the turn.
///
/// The lock takes 64 bytes, 16 for each slot, and the value. Threads prefer different slots, four
/// of which share a cache line, so readers seldom slow each other down. A writer is slower, because
/// it checks every slot: 8 cache lines for 32 slots.
///
/// # Turns
///
/// One waiting writer at a time has the turn. From then on no new reader gets the lock, and the
/// writer gets it when the last reader has released it. All other threads wait for the turn, for
/// reading or writing, in no specified order.
///
/// A thread that holds the lock for reading can lock it for reading again, even if a writer waits.
/// If it locks it for writing, it gets [`LockError::Deadlock`]. A thread that holds the lock for
/// writing gets that error from every method that would wait.
///
/// # When a process dies
///
/// - A reader: its slot is free at once, and a writer that waits for it goes on.
/// - A writer that holds the lock: later and waiting readers and writers get
///   [`LockError::OwnerDied`] with the guard at once. The value may be half changed. The lock stays
///   poisoned until a writer repairs the value and calls [`RwLockWriteGuard::mark_consistent`]. A
///   panic of a writer poisons the lock as well; a panic of a reader does not.
/// - A waiting reader or writer, even one that has the turn: other threads are not affected. (If it
///   dies just after it was woken, the next waiter notices within 100 ms.)
///
/// The kernel detects the death (robust futexes, and `FUTEX_WAITV` to wait for any slot; before
/// Linux 5.16, a thread that waits for a slot checks all of them every 100 ms). The limits are
/// those of [`Mutex`](crate::Mutex#limits), where each slot counts as a lock.
///
/// # Examples
///
/// ```
/// use mp_sync::{LockError, RwLock};
///
/// static PRICES: RwLock<[u32; 2]> = RwLock::new([3, 5]);
///
/// let sum = PRICES.read()?.iter().sum::<u32>();
/// match PRICES.write() {
///     Ok(mut prices) => prices[0] = sum,
///     Err(LockError::OwnerDied(mut prices)) => {
///         *prices = [3, 5]; // repair the value
///         prices.mark_consistent();
///     }
///     Err(error) => return Err(error.to_string().into()),
/// }
/// assert_eq!(*PRICES.read()?, [8, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C, align(64))]
pub struct RwLock<T: ?Sized, const READERS: usize = 32> {
    raw: RawRwLock<READERS>,
    value: UnsafeCell<T>,
}

const _: () = {
    assert!(
        offset_of!(RwLock<u64>, value) == 576 && size_of::<RwLock<u64>>() == 640 && align_of::<RwLock<u64>>() == 64
    );
    assert!(offset_of!(RwLock<u64, 4>, value) == 128);
};

// SAFETY: sending the lock sends the value.
unsafe impl<T: ?Sized + Send, const READERS: usize> Send for RwLock<T, READERS> {}
// SAFETY: the lock lends the value to one thread for changing, or to several for reading.
unsafe impl<T: ?Sized + Send + Sync, const READERS: usize> Sync for RwLock<T, READERS> {}

impl<T> RwLock<T> {
    /// Makes an unlocked lock for 32 readers at a time.
    pub const fn new(value: T) -> Self {
        Self::with_readers(value)
    }
}

impl<T, const READERS: usize> RwLock<T, READERS> {
    /// Makes an unlocked lock for `READERS` readers at a time. It does not compile unless that is a
    /// multiple of 4, from 4 to 128.
    ///
    /// ```
    /// use mp_sync::RwLock;
    ///
    /// static LOCK: RwLock<u64, 128> = RwLock::with_readers(0);
    /// assert_eq!(*LOCK.read()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn with_readers(value: T) -> Self {
        Self { raw: RawRwLock::new(READERS as u32), value: UnsafeCell::new(value) }
    }

    /// Returns the value. No other process can have the lock. A poisoned lock is no error.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

type Read<'a, T, const READERS: usize> = RwLockReadGuard<'a, T, READERS>;
type Write<'a, T, const READERS: usize> = RwLockWriteGuard<'a, T, READERS>;

impl<T: ?Sized, const READERS: usize> RwLock<T, READERS> {
    /// Waits for the lock, and takes it for reading.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard: see [above](Self#when-a-process-dies).
    /// [`LockError::Deadlock`] if this thread holds the lock for writing.
    #[inline]
    pub fn read(&self) -> Result<Read<'_, T, READERS>, LockError<Read<'_, T, READERS>>> {
        match self.read_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("there is no deadline"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock for reading if no thread holds it for writing or has the turn to do so, and a
    /// slot is free. Otherwise returns `None`.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_read(&self) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        match self.read_until(Deadline::PASSED) {
            Err(LockError::Deadlock) => Ok(None),
            other => other,
        }
    }

    /// Waits for the lock for `timeout` at most, and takes it for reading, or returns `None` if it
    /// was not available in time. With a timeout of zero it is [`try_read`](Self::try_read), except
    /// that it returns an error if this thread holds the lock for writing.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        self.read_until(Deadline::after(timeout))
    }

    #[inline]
    fn read_until(&self, deadline: Deadline) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        match self.raw.enter(deadline, true) {
            Ok(Entered { slot, in_order }) => {
                let guard = RwLockReadGuard { lock: self, slot, thread: PhantomData };
                if in_order { Ok(Some(guard)) } else { Err(LockError::OwnerDied(guard)) }
            }
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => Err(LockError::Deadlock),
        }
    }

    /// Waits for the lock, and takes it for writing.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard: see [above](Self#when-a-process-dies).
    /// [`LockError::Deadlock`] if this thread holds the lock, for reading or for writing.
    #[inline]
    pub fn write(&self) -> Result<Write<'_, T, READERS>, LockError<Write<'_, T, READERS>>> {
        match self.write_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("there is no deadline"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock for writing if it is free. Returns `None` if a thread holds it, even this
    /// thread, or if another thread has the turn.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_write(&self) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        match self.write_until(Deadline::PASSED) {
            Err(LockError::Deadlock) => Ok(None),
            other => other,
        }
    }

    /// Waits for the lock for `timeout` at most, and takes it for writing, or returns `None` if it
    /// was not available in time. With a timeout of zero it is [`try_write`](Self::try_write),
    /// except that it returns an error if this thread holds the lock.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        self.write_until(Deadline::after(timeout))
    }

    #[inline]
    fn write_until(
        &self,
        deadline: Deadline,
    ) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        let guard = || RwLockWriteGuard { lock: self, panicking: panicking(), thread: PhantomData };
        match self.raw.write(deadline) {
            Ok(true) => Ok(Some(guard())),
            Ok(false) => Err(LockError::OwnerDied(guard())),
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => Err(LockError::Deadlock),
        }
    }

    /// Tells whether a writer died or panicked while it held the lock, and no later writer has
    /// marked the value as consistent. This may have changed when the caller gets the answer.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Marks the value as consistent, like std's method: later owners get no error. While this
    /// thread holds the lock for writing, it does the same as
    /// [`RwLockWriteGuard::mark_consistent`].
    ///
    /// Unlike std's method, it takes the lock for an instant, and waits while another thread holds
    /// it. While this thread holds the lock for reading, it does nothing.
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Returns a reference to the value. The exclusive borrow makes locking unnecessary.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default, const READERS: usize> Default for RwLock<T, READERS> {
    fn default() -> Self {
        Self::with_readers(T::default())
    }
}

impl<T, const READERS: usize> From<T> for RwLock<T, READERS> {
    fn from(value: T) -> Self {
        Self::with_readers(value)
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLock<T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(Some(guard)) => output.field("value", &&*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("value", &&*guard),
            _ => output.field("value", &format_args!("<locked>")),
        };
        output.finish()
    }
}

/// Holds the lock for reading and lends the value. Dropping it releases the lock.
#[must_use = "dropping the guard releases the lock"]
pub struct RwLockReadGuard<'a, T: ?Sized, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    slot: usize,
    /// Not `Send`, because the slot belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: the guard only lends the value, which does not depend on the thread.
unsafe impl<T: ?Sized + Sync, const READERS: usize> Sync for RwLockReadGuard<'_, T, READERS> {}

impl<T: ?Sized, const READERS: usize> LockGuard for RwLockReadGuard<'_, T, READERS> {}

impl<T: ?Sized, const READERS: usize> Deref for RwLockReadGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for reading, and the value is lent no longer than the guard is
        // borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> Drop for RwLockReadGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave(self.slot);
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, const READERS: usize> fmt::Display for RwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Holds the lock for writing and lends the value. Dropping it releases the lock.
///
/// If a panic that began while the lock was held drops it, the lock is poisoned: later owners get
/// [`LockError::OwnerDied`].
#[must_use = "dropping the guard releases the lock"]
pub struct RwLockWriteGuard<'a, T: ?Sized, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    /// Whether the thread was already panicking when it took the lock.
    panicking: bool,
    /// Not `Send`, because the lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: the guard only lends the value, which does not depend on the thread.
unsafe impl<T: ?Sized + Sync, const READERS: usize> Sync for RwLockWriteGuard<'_, T, READERS> {}

impl<'a, T: ?Sized, const READERS: usize> RwLockWriteGuard<'a, T, READERS> {
    /// Marks the value as consistent: later owners get no error.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.set_poisoned(false);
    }

    /// Converts the guard to one for reading, without letting another writer in between. A poisoned
    /// lock stays poisoned.
    ///
    /// ```
    /// use mp_sync::{RwLock, RwLockWriteGuard};
    ///
    /// static LOCK: RwLock<u32> = RwLock::new(1);
    /// let mut value = LOCK.write()?;
    /// *value += 1;
    /// let value = RwLockWriteGuard::downgrade(value);
    /// assert_eq!((*value, *LOCK.read()?), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T, READERS> {
        let guard = ManuallyDrop::new(guard);
        guard.settle();
        RwLockReadGuard { lock: guard.lock, slot: guard.lock.raw.downgrade(), thread: PhantomData }
    }

    fn settle(&self) {
        if panicking() && !self.panicking {
            self.lock.raw.set_poisoned(true);
        }
    }
}

impl<T: ?Sized, const READERS: usize> LockGuard for RwLockWriteGuard<'_, T, READERS> {}

impl<T: ?Sized, const READERS: usize> Deref for RwLockWriteGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for writing, and the value is lent no longer than the guard is
        // borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> DerefMut for RwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> Drop for RwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.settle();
        self.lock.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, const READERS: usize> fmt::Display for RwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests;
