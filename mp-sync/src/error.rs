//! Why a lock is not simply there.

use std::fmt;

/// What [`lock`](crate::Mutex::lock) and its like return instead of a guard.
///
/// `G` is the guard, which an owner's death does not withhold.
#[non_exhaustive]
pub enum LockError<G> {
    /// Whoever had it last died or panicked while holding it, and nobody has said since that what
    /// it protects is in order: that is what
    /// [`mark_consistent`](crate::MutexGuard::mark_consistent) is for. The lock is held now, by
    /// this guard.
    OwnerDied(G),
    /// This thread has it already, and would have waited for itself.
    Deadlock,
    /// This thread has taken a [`ReentrantMutex`](crate::ReentrantMutex) as often as can be
    /// counted, or more than once where it may be taken once only.
    Depth,
}

impl<G> LockError<G> {
    /// The guard, where there is one: for those to whom what was left behind is good enough.
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

    /// The same error with something else in place of the guard: for types that are built on these
    /// locks and have guards of their own, or give the value away and let go of the lock.
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
            Self::OwnerDied(_) => "the last owner of the lock died or panicked while holding it",
            Self::Deadlock => "this thread holds the lock already",
            Self::Depth => "this thread holds the reentrant lock too many times for this",
        })
    }
}

impl<G> std::error::Error for LockError<G> {}
