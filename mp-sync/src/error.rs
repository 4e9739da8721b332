//! Why a lock operation returned an error.

use std::error::Error;
use std::fmt;

/// The error of [`lock`](crate::Mutex::lock) and similar methods.
///
/// `G` is the guard, which the error contains after the death of an owner. An error that contains a
/// guard borrows the lock, so it implements no [`Error`]. But `?` converts it into a `Box<dyn
/// Error>`, without the guard: so the lock is released.
///
/// ```
/// use mp_sync::Mutex;
///
/// fn count(count: &Mutex<u64>) -> Result<(), Box<dyn std::error::Error>> {
///     *count.lock()? += 1;
///     Ok(())
/// }
/// # count(&Mutex::new(0)).unwrap();
/// ```
#[non_exhaustive]
pub enum LockError<G> {
    /// An owner died or panicked while it held the lock, and no later owner has called
    /// [`mark_consistent`](crate::MutexGuard::mark_consistent), so the value may be half changed.
    /// This guard holds the lock.
    OwnerDied(G),
    /// This thread already holds the lock, so it would wait for itself.
    Deadlock,
    /// This thread has locked a [`ReentrantMutex`](crate::ReentrantMutex) as many times as can be
    /// counted, or more than once where only once is allowed.
    Depth,
}

impl<G> LockError<G> {
    /// Returns the guard if there is one, for callers that accept the value as the dead owner left
    /// it.
    ///
    /// ```
    /// use mp_sync::Mutex;
    ///
    /// static COUNT: Mutex<u64> = Mutex::new(0);
    /// let mut count = COUNT.lock().or_else(|error| error.into_guard().ok_or("this thread has it already"))?;
    /// *count += 1;
    /// # Ok::<(), &str>(())
    /// ```
    pub fn into_guard(self) -> Option<G> {
        match self {
            Self::OwnerDied(guard) => Some(guard),
            Self::Deadlock | Self::Depth => None,
        }
    }

    /// Drops the guard, if there is one, and so releases the lock. What is left is an [`Error`]
    /// that can be kept and sent anywhere.
    ///
    /// ```
    /// use mp_sync::{LockError, Mutex};
    ///
    /// fn count(count: &Mutex<u64>) -> Result<(), LockError<()>> {
    ///     *count.lock().map_err(LockError::without_guard)? += 1;
    ///     Ok(())
    /// }
    /// # count(&Mutex::new(0)).unwrap();
    /// ```
    pub fn without_guard(self) -> LockError<()> {
        self.map(drop)
    }

    /// Replaces the guard in the error, for types that build on these locks and have guards of
    /// their own, or that return the value and release the lock.
    ///
    /// ```
    /// use mp_sync::{LockError, Mutex};
    ///
    /// fn read(count: &Mutex<u64>) -> Result<u64, LockError<u64>> {
    ///     count.lock().map(|count| *count).map_err(|error| error.map(|count| *count))
    /// }
    /// # assert_eq!(read(&Mutex::new(3)).ok(), Some(3));
    /// ```
    pub fn map<H>(self, change: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::OwnerDied(guard) => LockError::OwnerDied(change(guard)),
            Self::Deadlock => LockError::Deadlock,
            Self::Depth => LockError::Depth,
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerDied(_) => "OwnerDied(..)",
            Self::Deadlock => "Deadlock",
            Self::Depth => "Depth",
        })
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerDied(_) => "an owner of the lock died or panicked while holding it",
            Self::Deadlock => "this thread already holds the lock",
            Self::Depth => "this thread holds the reentrant lock too many times",
        })
    }
}

impl Error for LockError<()> {}

/// A guard that a [`LockError`] can contain. Implement it for a guard of your own, so that `?`
/// converts the error into a `Box<dyn Error>`.
pub trait LockGuard {}

impl<G: LockGuard> From<LockError<G>> for Box<dyn Error> {
    fn from(error: LockError<G>) -> Self {
        Box::new(error.without_guard())
    }
}

impl<G: LockGuard> From<LockError<G>> for Box<dyn Error + Send + Sync> {
    fn from(error: LockError<G>) -> Self {
        Box::new(error.without_guard())
    }
}
