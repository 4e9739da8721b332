//! The public reentrant mutex: its owner may take it again.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::raw::mutex::{RawMutex, Refused};

/// A [`Mutex`](crate::Mutex) that the thread which has it may take again, as Python's `RLock`: it
/// is free when all its guards are gone.
///
/// As a thread may have several guards at a time, they lend the value shared: use a `Cell`, a
/// `RefCell` or an atomic to change it.
///
/// What a death does, and the limits, are those of [`Mutex`](crate::Mutex#when-the-owner-dies). A
/// thread can take it 2³² − 1 times at once.
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
/// add_one(); // takes it again
/// assert_eq!(count.get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct ReentrantMutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

const _: () = assert!(size_of::<ReentrantMutex<u64>>() == 48);

// SAFETY: the value goes with the mutex.
unsafe impl<T: ?Sized + Send> Send for ReentrantMutex<T> {}
// SAFETY: the value is lent to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}

impl<T> ReentrantMutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// The value, of a mutex that nobody else can see any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

type Locked<'a, T> = Result<Option<ReentrantMutexGuard<'a, T>>, LockError<ReentrantMutexGuard<'a, T>>>;

impl<T: ?Sized> ReentrantMutex<T> {
    /// Takes the lock, waiting for as long as another thread has it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard; a poisoned lock gives it each time it is taken
    /// anew. [`LockError::Depth`] if this thread has it as often as can be counted.
    #[inline]
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        match self.lock_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("never has passed"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock unless another thread has it; then it is `None`.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Option<ReentrantMutexGuard<'_, T>>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Deadline::PASSED)
    }

    /// Takes the lock, waiting no longer than that; `None` if another thread has had it all the
    /// time.
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

    /// Whether some thread has it at this moment, be it this one.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Whether the last owner died or panicked while holding the lock, and nobody has said since
    /// that the value is in order, as std's. It may have changed when this returns.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Says that the value is in order again, as std's: the next owner receives no error. With the
    /// guard at hand, it is the same as [`ReentrantMutexGuard::mark_consistent`].
    ///
    /// It takes the lock for an instant, and waits while another thread has it, which std's does
    /// not.
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// The value, of a mutex that nobody else can see now.
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

/// One of the guards of a [`ReentrantMutex`] that this thread has. Dropping the last one lets go of
/// the lock.
#[must_use = "the lock is let go when the guard is dropped"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    panicking: bool,
    /// The lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: it lends the value, and nothing else that needs its thread.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<'a, T: ?Sized> ReentrantMutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a ReentrantMutex<T>) -> Self {
        Self { mutex, panicking: panicking(), thread: PhantomData }
    }

    /// Says that the value is in order again: the next owner is told of no death.
    pub fn mark_consistent(&mut self) {
        self.mutex.raw.set_poisoned(false);
    }

    pub(crate) fn mutex(&self) -> &'a ReentrantMutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by this thread, and the value is lent shared, for as long as the
        // guard is.
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
