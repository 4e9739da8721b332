//! `ReentrantMutex`: a mutex that its owner may lock again.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::error::LockGuard;
use crate::raw::mutex::{RawMutex, Refused};

/// A [`Mutex`](crate::Mutex) that the thread that holds it may lock again, like Python's `RLock`.
/// It is free when all guards are dropped.
///
/// A thread can have several guards, so they lend the value shared. Use a `Cell`, a `RefCell` or an
/// atomic to change it.
///
/// The effects of a death and the limits are those of [`Mutex`](crate::Mutex#when-the-owner-dies).
/// A thread can hold it 2³² − 1 times at once.
///
/// ```
/// use std::cell::Cell;
///
/// use mp_sync::ReentrantMutex;
///
/// static COUNT: ReentrantMutex<Cell<u64>> = ReentrantMutex::new(Cell::new(0));
///
/// fn add_one() {
///     let count = COUNT.lock().unwrap();
///     count.set(count.get() + 1);
/// }
///
/// let count = COUNT.lock()?;
/// add_one(); // locks it again
/// assert_eq!(count.get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct ReentrantMutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

const _: () = assert!(size_of::<ReentrantMutex<u64>>() == 48);

// SAFETY: sending the mutex sends the value.
unsafe impl<T: ?Sized + Send> Send for ReentrantMutex<T> {}
// SAFETY: the mutex lends the value to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}

impl<T> ReentrantMutex<T> {
    /// Makes an unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// Returns the value. No other process can have the mutex. A poisoned mutex is no error.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

type Locked<'a, T> = Result<Option<ReentrantMutexGuard<'a, T>>, LockError<ReentrantMutexGuard<'a, T>>>;

impl<T: ?Sized> ReentrantMutex<T> {
    /// Waits until no other thread holds the lock, and takes it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, each time that a thread locks a poisoned mutex that
    /// it does not hold. [`LockError::Depth`] if this thread holds it as many times as can be
    /// counted.
    #[inline]
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        match self.lock_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("there is no deadline"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock, or returns `None` if another thread holds it.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Option<ReentrantMutexGuard<'_, T>>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Deadline::PASSED)
    }

    /// Waits for the lock for `timeout` at most, and returns `None` if another thread held it all
    /// the time.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<ReentrantMutexGuard<'_, T>>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    #[inline]
    pub(crate) fn lock_until(&self, deadline: Deadline) -> Locked<'_, T> {
        match self.raw.lock(deadline) {
            Ok(true) => Ok(Some(ReentrantMutexGuard::new(self))),
            Ok(false) => Err(LockError::OwnerDied(ReentrantMutexGuard::new(self))),
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => match self.raw.depth().checked_add(1) {
                Some(depth) => {
                    self.raw.set_depth(depth);
                    Ok(Some(ReentrantMutexGuard::new(self)))
                }
                None => Err(LockError::Depth),
            },
        }
    }

    /// Tells whether a thread holds the lock, even this one. This may have changed when the caller
    /// gets the answer.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Tells whether an owner died or panicked while it held the lock, and no later owner has
    /// marked the value as consistent. This may have changed when the caller gets the answer.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Marks the value as consistent, like std's method: later owners get no error. While this
    /// thread holds a guard, it does the same as [`ReentrantMutexGuard::mark_consistent`].
    ///
    /// Unlike std's method, it takes the lock for an instant, and waits while another thread holds
    /// it.
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Returns a reference to the value. The exclusive borrow makes locking unnecessary.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    pub(crate) fn raw(&self) -> &RawMutex {
        &self.raw
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for ReentrantMutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("ReentrantMutex");
        match self.try_lock() {
            Ok(Some(guard)) => output.field("value", &&*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("value", &&*guard),
            _ => output.field("value", &format_args!("<locked>")),
        };
        output.finish()
    }
}

/// Holds the lock of a [`ReentrantMutex`] and lends the value. Dropping a thread's last guard
/// releases the lock.
#[must_use = "dropping the guard releases the lock"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    panicking: bool,
    /// Not `Send`, because the lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: the guard only lends the value, which does not depend on the thread.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<'a, T: ?Sized> ReentrantMutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a ReentrantMutex<T>) -> Self {
        Self { mutex, panicking: panicking(), thread: PhantomData }
    }

    /// Marks the value as consistent: later owners get no error.
    pub fn mark_consistent(&mut self) {
        self.mutex.raw.set_poisoned(false);
    }

    pub(crate) fn mutex(&self) -> &'a ReentrantMutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> LockGuard for ReentrantMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock, and the value is lent shared, no longer than the
        // guard is borrowed.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if panicking() && !self.panicking {
            self.mutex.raw.set_poisoned(true);
        }
        match self.mutex.raw.depth() {
            0 => self.mutex.raw.unlock(),
            depth if !self.mutex.raw.is_anothers() => self.mutex.raw.set_depth(depth - 1),
            _ => (),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
