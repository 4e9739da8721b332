//! `Mutex`: the raw mutex and the value that it protects.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::error::LockGuard;
use crate::raw::mutex::{RawMutex, Refused};

/// A mutex and the value that it protects, for the threads of all processes that share its memory.
///
/// It has no pointers: it consists of 40 bytes and the value. Put it in memory that several
/// processes have mapped, registered as a [`SharedRegion`](crate::SharedRegion) in each, or in an
/// ordinary `static` or `Arc` between threads.
///
/// # When the owner dies
///
/// If a process ends for any reason while one of its threads holds the lock, the next
/// [`lock`](Self::lock), or a waiting one, gets [`LockError::OwnerDied`] with the guard at once.
/// The kernel detects the death ([robust
/// futexes](https://www.kernel.org/doc/html/latest/locking/robust-futexes.html)), so no process has
/// to poll. The value may be half changed. Repair it and call [`MutexGuard::mark_consistent`].
/// Until then the lock is poisoned, and every later owner gets the same error with the guard. A
/// panic while holding the lock poisons it as well.
///
/// The death of a waiter does not affect other threads. (If it dies just after it was woken, the
/// next waiter notices within 100 ms.)
///
/// # Limits
///
/// - All threads that use a lock have to be in one PID namespace. In different namespaces, two
///   threads can have the same thread ID, which the lock cannot distinguish.
/// - For at most 1,022 locks in shared memory that a thread holds, later owners learn of its death.
///   Further locks stay locked if it dies. (Robust mutexes of the C library count too: the kernel
///   checks 2,048 entries, and each of these locks takes two.)
/// - If a thread that is not the first of its process calls `exec`, its thread ID changes before
///   the kernel checks its locks. So they stay locked.
/// - A leaked guard (`mem::forget`) keeps the lock while its thread lives, as in std. If the thread
///   ends before its process, the lock stays locked permanently, because other threads may still
///   have references from the guard. If other bytes overwrite such a lock, the death of the owner
///   of the thread's older locks may go unnoticed.
/// - The lock is not fair: a thread that calls at the right moment overtakes the waiters.
/// - The threads of a killed process end one after another, within microseconds. A thread that
///   borrows the value from the owner, in a [`thread::scope`](std::thread::scope), may still run
///   for that long after the next owner got the lock.
/// - Do not use it in signal handlers. In the child of a `fork` of a process with several threads,
///   do not use it for the first time in a thread.
///
/// # Examples
///
/// ```
/// use mp_sync::{LockError, Mutex};
///
/// static BALANCE: Mutex<i64> = Mutex::new(100);
///
/// let mut balance = match BALANCE.lock() {
///     Ok(guard) => guard,
///     Err(LockError::OwnerDied(mut guard)) => {
///         *guard = 0; // repair the value
///         guard.mark_consistent();
///         guard
///     }
///     Err(error) => return Err(error.to_string()),
/// };
/// *balance -= 1;
/// assert_eq!(*balance, 99);
/// # Ok::<(), String>(())
/// ```
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

const _: () = assert!(size_of::<Mutex<u64>>() == 48 && std::mem::offset_of!(Mutex<u64>, value) == 40);

// SAFETY: sending the mutex sends the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the mutex lends the value to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// Returns the value. No other process can have the mutex. A poisoned mutex is no error.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock, and takes it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard: see [above](Self#when-the-owner-dies).
    /// [`LockError::Deadlock`] if this thread holds the lock.
    #[inline(always)]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.lock_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("there is no deadline"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock if it is free. Returns `None` if a thread holds it, even this thread.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        match self.lock_until(Deadline::PASSED) {
            Err(LockError::Deadlock) => Ok(None),
            other => other,
        }
    }

    /// Waits for the lock for `timeout` at most, and returns `None` if it was not free in time.
    /// With a timeout of zero it is [`try_lock`](Self::try_lock), except that it returns an error
    /// if this thread holds the lock.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock, waiting no longer than until the deadline; otherwise as
    /// [`lock_timeout`](Self::lock_timeout). For waits that consist of several.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    #[inline(always)]
    pub fn lock_until(&self, deadline: Deadline) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        match self.raw.lock(deadline) {
            Ok(true) => Ok(Some(MutexGuard::new(self))),
            Ok(false) => Err(LockError::OwnerDied(MutexGuard::new(self))),
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => Err(LockError::Deadlock),
        }
    }

    /// Tells whether a thread holds the lock. This may have changed when the caller gets the
    /// answer, so it is for displays and tests.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Tells whether an owner died or panicked while it held the lock, and no later owner has
    /// marked the value as consistent. This may have changed when the caller gets the answer.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Marks the value as consistent, like std's method: later owners get no error. While this
    /// thread holds the guard, it does the same as [`MutexGuard::mark_consistent`].
    ///
    /// Unlike std's method, it takes the lock for an instant, and waits while another thread holds
    /// it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_sync::{LockError, Mutex};
    ///
    /// static BALANCE: Mutex<i64> = Mutex::new(100);
    ///
    /// let broken = std::thread::spawn(|| {
    ///     let _balance = BALANCE.lock();
    ///     panic!("with the lock");
    /// });
    /// assert!(broken.join().is_err() && BALANCE.is_poisoned());
    /// let Err(LockError::OwnerDied(mut balance)) = BALANCE.lock() else { panic!("it is poisoned") };
    /// *balance = 0;
    /// BALANCE.clear_poison();
    /// drop(balance);
    /// assert!(!BALANCE.is_poisoned() && BALANCE.lock().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Returns a reference to the value. The exclusive borrow makes locking unnecessary.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(Some(guard)) => output.field("value", &&*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("value", &&*guard),
            _ => output.field("value", &format_args!("<locked>")),
        };
        output.finish()
    }
}

/// Holds the lock and lends the value. Dropping it releases the lock.
///
/// If a panic that began while the lock was held drops it, the lock is poisoned: later owners get
/// [`LockError::OwnerDied`].
#[must_use = "dropping the guard releases the lock"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Whether the thread was already panicking when it took the lock.
    panicking: bool,
    /// Not `Send`, because the lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: the guard only lends the value, which does not depend on the thread.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { mutex, panicking: panicking(), thread: PhantomData }
    }

    /// Marks the value as consistent: later owners get no error.
    pub fn mark_consistent(&mut self) {
        self.mutex.raw.set_poisoned(false);
    }

    /// Returns the mutex, for a [`Condvar`](crate::Condvar) that releases it temporarily.
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn raw(&self) -> &RawMutex {
        &self.raw
    }
}

impl<T: ?Sized> LockGuard for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and the value is lent no longer than the guard is borrowed.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if panicking() && !self.panicking {
            self.mutex.raw.set_poisoned(true);
        }
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
