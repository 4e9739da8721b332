//! `Value`: one value under a lock.

use std::fmt;
use std::io;
use std::time::Duration;

use mp_sync::{LockError, Mutex, MutexGuard};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Shared, ShmSafe};

/// A value in shared memory with a lock: a [`Shared`] [`Mutex`].
///
/// It can be part of any message, argument or result, and every clone and every received copy
/// refers to the same value. Use [`update`](Self::update) for a change that depends on the old
/// value: between [`get`](Self::get) and [`set`](Self::set), another thread or process can change
/// it.
///
/// Its memory, its descriptors and the trust that it needs are as for [`Shared`]. The limits of the
/// lock are those of [`Mutex`](Mutex#limits).
///
/// The value is lent mutably, so it has no locks of its own. It does not compile for a type that
/// has ([`Layout::has_locks`](crate::Layout::has_locks)):
///
/// ```compile_fail,E0080
/// let value = mp_shm::Value::new(mp_sync::Mutex::new(0));
/// ```
///
/// # Process death
///
/// If a thread that holds the lock panics, or its process dies, the value may be half changed.
/// Every later owner gets [`LockError::OwnerDied`], until one repairs the value with
/// [`lock`](Self::lock) and calls [`mark_consistent`](MutexGuard::mark_consistent). Until then, the
/// error of [`lock`](Self::lock) contains the guard, and [`set`](Self::set) and
/// [`update`](Self::update) change nothing. The death of a process that waits for the lock has no
/// effect.
///
/// The value is not dropped. The kernel frees its memory with the last process that has it and the
/// last message that contains it.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::Value;
///
/// #[process_fn]
/// fn count(words: Value<u64>, text: String) {
///     for _ in text.split_whitespace() {
///         words.update(|words| *words += 1).expect("nobody died");
///     }
/// }
///
/// let words = Value::new(0u64)?;
/// let processes = [count::spawn(words.clone(), "a b c".to_owned())?, count::spawn(words.clone(), "d e".to_owned())?];
/// for process in processes {
///     process.join()?;
/// }
/// assert_eq!(words.get()?, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// After a death:
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::Value;
/// use mp_sync::LockError;
///
/// #[process_fn]
/// fn dies(value: Value<[u32; 2]>) {
///     let mut both = value.lock().expect("nobody died");
///     both[0] += 1;
///     std::process::abort();
/// }
///
/// let value = Value::new([0, 0])?;
/// assert!(dies::spawn(value.clone())?.join().is_err());
///
/// assert!(matches!(value.set([7, 7]), Err(LockError::OwnerDied(()))));
/// assert!(matches!(value.get(), Err(LockError::OwnerDied(()))));
/// if let Err(LockError::OwnerDied(mut both)) = value.lock() {
///     assert_eq!(*both, [1, 0]);
///     both[1] = both[0];
///     both.mark_consistent();
/// }
/// value.update(|both| both[0] += 1)?;
/// assert_eq!(value.get()?, [2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Value<T> {
    shared: Shared<Mutex<T>>,
}

impl<T: ShmSafe + Send> Value<T> {
    /// Moves `value` to new shared memory, which takes at least a page.
    ///
    /// # Errors
    ///
    /// Fails if there is no free descriptor, memory or address space.
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library lacks what
    /// [`SharedRegion`](mp_sync::SharedRegion) needs.
    pub fn new(value: T) -> io::Result<Self> {
        Shared::new(Mutex::new(value)).map(|shared| Self { shared })
    }

    /// Waits for the lock, and lends the value.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard: see [above](Self#process-death).
    /// [`LockError::Deadlock`] if this thread holds the lock.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.shared.lock()
    }

    /// Takes the lock if it is free. Returns `None` if a thread holds it, even this thread.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.shared.try_lock()
    }

    /// Waits for the lock for `timeout` at most, and returns `None` if it was not free in time.
    /// With a timeout of zero it is [`try_lock`](Self::try_lock), except that it returns an error
    /// if this thread holds the lock.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.shared.lock_timeout(timeout)
    }

    /// Returns a copy of the value.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`]: see [above](Self#process-death); [`LockError::Deadlock`] if this
    /// thread holds the lock.
    #[inline]
    pub fn get(&self) -> Result<T, LockError<()>>
    where
        T: Copy,
    {
        match self.shared.lock() {
            Ok(guard) => Ok(*guard),
            Err(error) => Err(error.without_guard()),
        }
    }

    /// Replaces the value.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update). The value is unchanged then.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), LockError<()>> {
        self.update(|place| *place = value)
    }

    /// Calls `change` with a mutable reference to the value, under the lock, and returns its
    /// result.
    ///
    /// If `change` panics, later owners get [`LockError::OwnerDied`].
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`]: see [above](Self#process-death); [`LockError::Deadlock`] if this
    /// thread holds the lock, for example because `change` itself calls this. `change` is not
    /// called then.
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, LockError<()>> {
        match self.shared.lock() {
            Ok(mut guard) => Ok(change(&mut guard)),
            Err(error) => Err(error.without_guard()),
        }
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: ShmSafe + Send> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shared::deserialize(deserializer).map(|shared| Self { shared })
    }
}

/// Does not wait: it shows no value if a thread holds the lock.
impl<T: fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("Value");
        match self.shared.try_lock() {
            Ok(Some(guard)) => output.field("value", &*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("value", &*guard),
            _ => output.field("value", &format_args!("<locked>")),
        };
        output.finish()
    }
}
