//! One value under a lock.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mp_sync::{LockError, Mutex, MutexGuard};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AttachError, Shared, ShmSafe};

/// A value in memory that several processes share, which one thread at a time reads or changes: a
/// [`Shared`] of a [`Mutex`].
///
/// It is sent inside other values, and clones are the same value. [`update`](Self::update) is for a
/// change that depends on what is there: between a [`get`](Self::get) and a [`set`](Self::set),
/// others can change it.
///
/// Memory, descriptors and what others can do with it are as for [`Shared`], and so are its limits;
/// those of the lock are in [`Mutex`](Mutex#limits).
///
/// # Process death
///
/// If a process dies while one of its threads holds the lock, or panics there, the value may be
/// half changed. [`LockError::OwnerDied`] says so to whoever comes next, and to all after it:
/// [`get`](Self::get) gives the value along with it; [`set`](Self::set) and
/// [`update`](Self::update) leave the value alone, until somebody has mended it by
/// [`lock`](Self::lock) and [`mark_consistent`](MutexGuard::mark_consistent). One that dies while
/// it waits is of no consequence.
///
/// The value is not dropped. Its memory is freed with the last process that has it, or with the
/// last message that it is in.
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
/// assert!(matches!(value.get(), Err(LockError::OwnerDied([1, 0]))));
/// if let Err(LockError::OwnerDied(mut both)) = value.lock() {
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
    /// Puts `value` into new memory, of at least a page.
    ///
    /// # Errors
    ///
    /// Descriptors, memory or address space have run out;
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the kernel or the C library does not keep
    /// what [`SharedRegion`](mp_sync::SharedRegion) needs.
    pub fn new(value: T) -> io::Result<Self> {
        Shared::new(Mutex::new(value)).map(|shared| Self { shared })
    }

    /// Takes the lock, waiting for as long as it takes, and lends the value.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, see [above](Self#process-death);
    /// [`LockError::Deadlock`] if this thread has it.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.shared.lock()
    }

    /// Takes the lock if it is free; `None` if somebody has it, be it this thread.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.shared.try_lock()
    }

    /// Takes the lock, waiting no longer than that; `None` if somebody has had it all the time. No
    /// time at all is [`try_lock`](Self::try_lock), but for a lock that this thread has.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.shared.lock_timeout(timeout)
    }

    /// A copy of the value.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with a copy of the value as it was left; [`LockError::Deadlock`] if
    /// this thread has the lock.
    #[inline]
    pub fn get(&self) -> Result<T, LockError<T>>
    where
        T: Copy,
    {
        match self.shared.lock() {
            Ok(guard) => Ok(*guard),
            Err(error) => Err(error.map(|guard| *guard)),
        }
    }

    /// Puts another value in place of the one that is there.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update): then the old value stays.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), LockError<()>> {
        self.update(|place| *place = value)
    }

    /// Lends the value to `change`, under the lock, and returns what that returns.
    ///
    /// If `change` panics, the value counts as half changed: others get [`LockError::OwnerDied`].
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`], see [above](Self#process-death); [`LockError::Deadlock`] if this
    /// thread has the lock, because it calls this from within `change` for example. `change` is not
    /// called then.
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, LockError<()>> {
        match self.shared.lock() {
            Ok(mut guard) => Ok(change(&mut guard)),
            Err(error) => Err(error.map(drop)),
        }
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// Attaches the memory of a [`Value`] whose descriptor ([`AsFd`]) came by other means than a
/// message of this library.
///
/// Whoever gave it is trusted with its contents, as is everybody who has it.
impl<T: ShmSafe + Send> TryFrom<OwnedFd> for Value<T> {
    type Error = AttachError;

    fn try_from(file: OwnedFd) -> Result<Self, AttachError> {
        Shared::try_from(file).map(|shared| Self { shared })
    }
}

/// The memory, as a descriptor, to be passed on, and to become a `Value` again elsewhere. Whoever
/// writes to it as to a file does what [others can do](Shared#what-others-can-do): it is no more
/// prevented than writing to `/proc/self/mem`.
impl<T> AsFd for Value<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
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

/// Does not wait: without the value, if somebody has the lock.
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
