//! The public mutex: the raw one with what it protects.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::raw::mutex::{RawMutex, Refused};

/// Mutual exclusion between threads of all processes that have mapped the memory it is in, with the
/// value that it protects.
///
/// It is a plain value without pointers: 40 bytes and the value. Put it into any memory that
/// several processes have mapped, registered as a [`SharedRegion`](crate::SharedRegion) in each; or
/// into an ordinary `static` or an `Arc`, between threads.
///
/// # When the owner dies
///
/// If a process is killed, or ends in any other way, while one of its threads holds the lock, the
/// next [`lock`](Self::lock) gets [`LockError::OwnerDied`] at once, and with it the guard; so do
/// those who were waiting. The kernel sees to that ([robust
/// futexes](https://www.kernel.org/doc/html/latest/locking/robust-futexes.html)), nobody has to
/// look. The value is as the dead left it: perhaps half changed. Mend it and call
/// [`MutexGuard::mark_consistent`]; otherwise the lock stays poisoned, and everybody gets the same
/// error, with the guard. A panic while holding the lock poisons it likewise.
///
/// A waiter that dies holds nobody up. (Should it die in the very moment after it was woken, the
/// next waiter notices within 100 ms.)
///
/// # Limits
///
/// - Locks are for threads of one PID namespace. Between containers with different ones, threads of
///   equal numbers cannot be told apart.
/// - A thread can hold 1,022 locks of shared memory at a time so that their death is told; what it
///   holds beyond stays locked if it dies. (Robust mutexes of the C library count too: the kernel
///   looks at 2,048 entries, of which each of these locks takes two.)
/// - A thread that is not its process's first and calls `exec` has another number before the kernel
///   looks: what it holds stays locked.
/// - A guard that is leaked (`mem::forget`) keeps the lock for as long as its thread lives, as with
///   std's. If the thread ends before its process does, the lock stays locked for good: references
///   that came from the guard may live on in other threads. If other bytes are put where such a
///   lock is, the death of the thread's older locks may not be told.
/// - It is not fair: a thread that comes at the right moment passes those who wait.
/// - If a process is killed, its threads end one after another, within microseconds: one that
///   borrows the value from the owner, in a [`thread::scope`](std::thread::scope), may run on for
///   that long after the next owner was told.
/// - It must not be used in signal handlers, nor, for the first time in a thread, in the child of a
///   `fork` of a process with several threads.
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
///         *guard = 0; // whatever makes it right again
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

// SAFETY: the value goes with the mutex.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the value is lent to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// The value, of a mutex that nobody else can see any more, in whatever state it is.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, see [above](Self#when-the-owner-dies);
    /// [`LockError::Deadlock`] if this thread has it.
    #[inline(always)]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.lock_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("never has passed"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock if it is free; `None` if somebody has it, be it this thread.
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

    /// Takes the lock, waiting no longer than that; `None` if somebody has had it all the time. No
    /// time at all is [`try_lock`](Self::try_lock), but for a lock that this thread has.
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

    /// Whether somebody has it at this moment. It may have changed when this returns: for displays
    /// and tests.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Whether the last owner died or panicked while holding the lock, and nobody has said since
    /// that the value is in order, as std's. It may have changed when this returns.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Says that the value is in order again, as std's: the next owner receives no error. With the
    /// guard at hand, it is the same as [`MutexGuard::mark_consistent`].
    ///
    /// It takes the lock for an instant, and waits while another thread has it, which std's does
    /// not.
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
    ///     panic!("in the middle of it");
    /// });
    /// assert!(broken.join().is_err() && BALANCE.is_poisoned());
    /// let Err(LockError::OwnerDied(mut balance)) = BALANCE.lock() else { panic!("it is told") };
    /// *balance = 0;
    /// BALANCE.clear_poison();
    /// drop(balance);
    /// assert!(!BALANCE.is_poisoned() && BALANCE.lock().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// The value, of a mutex that nobody else can see now.
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

/// The lock, held by this thread, and the value. Dropping it lets go of the lock.
///
/// If it is dropped by a panic that began while it was held, the lock is poisoned:
/// [`LockError::OwnerDied`].
#[must_use = "the lock is let go when the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Whether a panic was under way when it was taken.
    panicking: bool,
    /// The lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: it lends the value, and nothing else that needs its thread.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { mutex, panicking: panicking(), thread: PhantomData }
    }

    /// Says that the value is in order again: the next owner is told of no death.
    pub fn mark_consistent(&mut self) {
        self.mutex.raw.set_poisoned(false);
    }

    /// The mutex, for a [`Condvar`](crate::Condvar) that lets go of it for a while.
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn raw(&self) -> &RawMutex {
        &self.raw
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and the value is lent for as long as the guard is.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is lent exclusively.
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
