//! `Semaphore`: a number of permits that processes acquire and release.

use std::fmt;
use std::mem;
use std::time::Duration;

use thiserror::Error;

use crate::deadline::Deadline;
use crate::raw::semaphore::RawSemaphore;

/// A number of permits that processes acquire and release, like Python's
/// `multiprocessing.Semaphore` and `BoundedSemaphore`.
///
/// It has 16 bytes and no pointers. Place it in shared memory, at any address in each process, or
/// in a `static` for the threads of one process. Zero bytes are a semaphore without permits and
/// without a bound.
///
/// [`acquire`](Self::acquire) returns a [`Permit`], which is released when it is dropped. Any
/// process may also [`release`](Self::release) permits, even one that has acquired none;
/// [`Permit::forget`] leaves the release of a permit to such a call. So `Semaphore::bounded(1)` is
/// like Python's plain `multiprocessing.Lock`, which any process may release: `acquire().forget()`
/// and `release(1)`. If the same thread locks and unlocks, use a mutex, which reports the death of
/// its owner.
///
/// Everything that a thread did before it released a permit happens before a later acquire. The
/// order in which waiters get permits is not specified.
///
/// # Process death
///
/// If a process is killed while it holds a permit, the permit stays taken, because any process may
/// release it and no record says who holds it. (A [`RobustSemaphore`](crate::RobustSemaphore) gets
/// its permits back.) The death of a waiter has no effect. A process that is killed in a release
/// has released all of the permits or none. If it had no time to wake the sleepers, they notice
/// within a tenth of a second.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::thread;
///
/// use mp_sync::Semaphore;
///
/// static DOWNLOADS: Semaphore = Semaphore::bounded(2);
/// static RUNNING: AtomicU32 = AtomicU32::new(0);
///
/// thread::scope(|scope| {
///     for _ in 0..8 {
///         scope.spawn(|| {
///             let _permit = DOWNLOADS.acquire();
///             assert!(RUNNING.fetch_add(1, Ordering::Relaxed) < 2);
///             RUNNING.fetch_sub(1, Ordering::Relaxed);
///         });
///     }
/// });
/// assert_eq!(DOWNLOADS.value(), 2);
/// ```
#[repr(C)]
pub struct Semaphore {
    raw: RawSemaphore,
}

const _: () = assert!(size_of::<Semaphore>() == 16 && align_of::<Semaphore>() == 8);

/// Why [`Semaphore::release`] released nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The semaphore would have more permits than it was made with.
    #[error("released more permits than the semaphore's bound of {bound}")]
    Bound {
        /// The bound.
        bound: u32,
    },
    /// The semaphore would have more than `u32::MAX` permits.
    #[error("released more permits than a semaphore can count")]
    Overflow,
}

impl Semaphore {
    /// Makes a semaphore with `permits` permits. [`release`](Self::release) can add more, up to
    /// `u32::MAX`.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = mp_sync::Semaphore::new(0);
    /// semaphore.release(3)?;
    /// assert_eq!(semaphore.value(), 3);
    /// # Ok::<(), mp_sync::ReleaseError>(())
    /// ```
    pub const fn new(permits: u32) -> Self {
        Self { raw: RawSemaphore::new(permits, u32::MAX) }
    }

    /// Makes a semaphore with `permits` permits that never has more, like Python's
    /// `BoundedSemaphore`.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_sync::{ReleaseError, Semaphore};
    ///
    /// let semaphore = Semaphore::bounded(1);
    /// assert_eq!(semaphore.release(1), Err(ReleaseError::Bound { bound: 1 }));
    /// ```
    pub const fn bounded(permits: u32) -> Self {
        Self { raw: RawSemaphore::new(permits, permits) }
    }

    /// Waits for a permit, and takes it. It makes no system call if there is one.
    ///
    /// # Process death
    ///
    /// A killed process drops nothing, so its permits stay taken. If dead processes hold all
    /// permits, this waits indefinitely. If that can happen, use
    /// [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = mp_sync::Semaphore::new(2);
    /// let permit = semaphore.acquire();
    /// assert_eq!(semaphore.value(), 1);
    /// drop(permit);
    /// assert_eq!(semaphore.value(), 2);
    /// ```
    pub fn acquire(&self) -> Permit<'_> {
        // Without a deadline the result is always `true`.
        self.raw.acquire(Deadline::NEVER);
        Permit { semaphore: self }
    }

    /// Takes a permit if there is one. It never waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = mp_sync::Semaphore::new(1);
    /// let permit = semaphore.try_acquire();
    /// assert!(permit.is_some() && semaphore.try_acquire().is_none());
    /// ```
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.raw.try_acquire().then(|| Permit { semaphore: self })
    }

    /// Waits for a permit for `timeout` at most. A timeout of zero checks once. `Duration::MAX`
    /// waits indefinitely.
    ///
    /// The monotonic clock measures the time. It stops while the machine is suspended.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let semaphore = mp_sync::Semaphore::new(1);
    /// let permit = semaphore.acquire_timeout(Duration::MAX);
    /// assert!(permit.is_some() && semaphore.acquire_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        (self.raw.try_acquire() || self.raw.acquire(Deadline::after(timeout))).then(|| Permit { semaphore: self })
    }

    /// Adds `permits` permits, and wakes as many waiters. Zero does nothing.
    ///
    /// It makes no system call if no thread waits.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if there would be more permits than the bound or than
    /// `u32::MAX`.
    ///
    /// # Process death
    ///
    /// A process that is killed in this call has added all of the permits or none.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_sync::{ReleaseError, Semaphore};
    ///
    /// let semaphore = Semaphore::new(0);
    /// semaphore.release(u32::MAX)?;
    /// assert_eq!(semaphore.release(1), Err(ReleaseError::Overflow));
    /// assert_eq!(semaphore.value(), u32::MAX);
    /// # Ok::<(), ReleaseError>(())
    /// ```
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        if self.raw.release(permits) {
            return Ok(());
        }
        Err(match self.raw.bound() {
            u32::MAX => ReleaseError::Overflow,
            bound => ReleaseError::Bound { bound },
        })
    }

    /// Returns how many permits are free, like Python's `get_value`. The number may have changed
    /// when the caller gets it.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(mp_sync::Semaphore::new(5).value(), 5);
    /// ```
    pub fn value(&self) -> u32 {
        self.raw.permits()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("value", &self.value()).field("bound", &self.raw.bound()).finish()
    }
}

/// A permit of a [`Semaphore`]. Dropping it, on any thread, releases the permit.
///
/// If the semaphore already has all its permits, because others released more than they had,
/// dropping it changes nothing.
///
/// # Process death
///
/// A killed process drops nothing, so the permit stays taken.
///
/// # Examples
///
/// ```
/// let semaphore = mp_sync::Semaphore::bounded(2);
/// {
///     let _one = semaphore.acquire();
///     let _two = semaphore.acquire();
///     assert_eq!(semaphore.value(), 0);
/// }
/// assert_eq!(semaphore.value(), 2);
/// ```
#[must_use = "dropping the permit releases it"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit taken, so that any process can [`release`](Semaphore::release) it.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = mp_sync::Semaphore::bounded(1);
    /// semaphore.acquire().forget();
    /// assert_eq!(semaphore.value(), 0);
    /// semaphore.release(1)?;
    /// assert_eq!(semaphore.value(), 1);
    /// # Ok::<(), mp_sync::ReleaseError>(())
    /// ```
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // This fails if others released more than they had. Then there is nothing to release.
        let _ = self.semaphore.release(1);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
