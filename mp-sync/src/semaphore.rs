//! A number of permits that processes take and give back.

use std::fmt;
use std::mem;
use std::time::Duration;

use thiserror::Error;

use crate::deadline::Deadline;
use crate::raw::semaphore::RawSemaphore;

/// A number of permits that processes take and give back, as Python's `multiprocessing.Semaphore`
/// and `BoundedSemaphore`.
///
/// It is 16 bytes without a pointer in them: place it in memory that processes share, at any
/// address of each, or in a `static` for the threads of one process. All-zero bytes are a semaphore
/// without permits and without a bound.
///
/// [`acquire`](Self::acquire) returns a [`Permit`], which gives the permit back when it is dropped.
/// Any process may also [`release`](Self::release) permits, even one that has acquired none:
/// [`Permit::forget`] is the other half of that. So `Semaphore::bounded(1)` is Python's plain
/// `multiprocessing.Lock`, which any process may release: `acquire().forget()` and `release(1)`.
/// Where the one that locks is the one that unlocks, a mutex is better, because it tells when its
/// owner died.
///
/// What a thread has written before it releases a permit is seen by whoever acquires one after
/// that. Permits are not given out in the order in which they were asked for.
///
/// # Process death
///
/// A permit that a process has when it is killed stays taken: nobody knows whose it was, because
/// anybody may release it. (Those of a [`RobustSemaphore`](crate::RobustSemaphore) come back.) A
/// process that is killed while it waits is not missed. One that is killed in the middle of a
/// release has released all the permits or none of them; if it did not come to wake those who
/// sleep, they find them within a tenth of a second.
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

/// Why [`Semaphore::release`] changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The semaphore would have had more permits than it began with.
    #[error("released more permits than the semaphore's bound of {bound}")]
    Bound {
        /// The most that it can have.
        bound: u32,
    },
    /// The semaphore would have had more than `u32::MAX` permits.
    #[error("released more permits than a semaphore can count")]
    Overflow,
}

impl Semaphore {
    /// Makes a semaphore with that many permits, to which more may be added, up to `u32::MAX`.
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

    /// Makes a semaphore with that many permits that never has more, as Python's
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

    /// Takes a permit, and waits until there is one. Without a system call if there is.
    ///
    /// # Process death
    ///
    /// Nothing is dropped in a process that is killed, so its permits stay taken. If all permits
    /// are with processes that have died, this waits indefinitely. Where it can happen, use
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
        // Without a deadline there is no other answer.
        self.raw.acquire(Deadline::NEVER);
        Permit { semaphore: self }
    }

    /// Takes a permit if there is one. Never waits.
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

    /// Takes a permit, and waits for one for that long at most. Zero looks once; `Duration::MAX` is
    /// without a limit.
    ///
    /// The time is measured by the monotonic clock, which stands still while the machine sleeps.
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

    /// Adds that many permits, and wakes as many of those who wait. Zero does nothing.
    ///
    /// There is no system call if nobody waits.
    ///
    /// # Errors
    ///
    /// If there would be more than the bound or than `u32::MAX`, nothing is changed.
    ///
    /// # Process death
    ///
    /// Killed in the middle of it, a process has added all of them or none.
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

    /// How many permits are left: Python's `get_value`. By the time that the caller looks at the
    /// answer it may have changed.
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

/// A permit of a [`Semaphore`], which is given back when this is dropped, by whichever thread.
///
/// If the semaphore has all its permits by then, because others have released more than they had,
/// dropping it changes nothing.
///
/// # Process death
///
/// Nothing is dropped in a process that is killed: the permit stays taken.
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
#[must_use = "dropping it gives the permit back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit taken, for any process to [`release`](Semaphore::release).
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
        // It fails if others have released what they did not have; then there is nothing to give
        // back.
        let _ = self.semaphore.release(1);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
