//! One value that several processes use in place.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::raw::Region;
use crate::{AttachError, ShmSafe};

/// A value in memory that several processes share, by reference: an [`Arc`] across processes.
///
/// It is sent inside other values; whoever receives it has the same value, wherever it is mapped
/// there. What is to be changed stands in a lock or an atomic, as in an `Arc`; a whole struct of
/// them can be in one `Shared`: see [`ShmSafe`](trait@ShmSafe) and [its derive](derive@ShmSafe).
///
/// Clones in one process share one mapping and one descriptor. A `Shared` that is received anew is
/// another mapping, also of a value that this process has already.
///
/// # What others can do
///
/// The processes that share a value trust each other with it: one that writes over it with other
/// means than the type's can make others see wrong values, wait for ever, or keep the memory mapped
/// until they end. If the type has forbidden bytes, as a `bool` and an enum have, that is undefined
/// behaviour in those who read them. Its size is sealed, and its header is looked at once, by
/// whoever attaches it: this crate itself reads and writes nothing else.
///
/// # Process death
///
/// The value is not dropped. Its memory is freed with the last process that has it, or with the
/// last message that it is in. Locks in it tell of the death of their owner:
/// [`LockError::OwnerDied`](mp_sync::LockError::OwnerDied).
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::Shared;
/// use mp_sync::Mutex;
///
/// #[process_fn]
/// fn deposit(account: Shared<Mutex<u64>>, amount: u64) {
///     *account.lock().expect("nobody died") += amount;
/// }
///
/// let account = Shared::new(Mutex::new(0u64))?;
/// let processes = [deposit::spawn(account.clone(), 3)?, deposit::spawn(account.clone(), 4)?];
/// for process in processes {
///     process.join()?;
/// }
/// assert_eq!(*account.lock().expect("nobody died"), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shared<T> {
    region: Arc<Region<T>>,
}

impl<T: ShmSafe + Send + Sync> Shared<T> {
    /// Puts `value` into new memory, of at least a page.
    ///
    /// # Errors
    ///
    /// Descriptors, memory or address space have run out;
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the kernel or the C library does not keep
    /// what [`SharedRegion`](mp_sync::SharedRegion) needs.
    pub fn new(value: T) -> io::Result<Self> {
        Ok(Self { region: Arc::new(Region::create(value, 0)?) })
    }

    /// Makes new memory with a value of zero bytes in it, which is not written: for values that are
    /// too large for the stack.
    ///
    /// It does not compile for types of which zero bytes may not be a value
    /// ([`Layout::is_zeroable`](crate::Layout::is_zeroable)).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn zeroed() -> io::Result<Self> {
        Ok(Self { region: Arc::new(Region::zeroed(0)?) })
    }

    /// Whether the two are one value, in this process's eyes: clones of each other.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Arc::ptr_eq(&this.region, &other.region)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.region.head()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { region: Arc::clone(&self.region) }
    }
}

/// Attaches the memory of a [`Shared`] whose descriptor ([`AsFd`]) came by other means than a
/// message of this library.
///
/// Whoever gave it is trusted with its contents, as is everybody who has it.
impl<T: ShmSafe + Send + Sync> TryFrom<OwnedFd> for Shared<T> {
    type Error = AttachError;

    fn try_from(file: OwnedFd) -> Result<Self, AttachError> {
        let region = Region::attach(file)?;
        if region.is_empty() { Ok(Self { region: Arc::new(region) }) } else { Err(AttachError::Type) }
    }
}

/// The memory, as a descriptor, to be passed on, and to become a `Shared` again elsewhere. Whoever
/// writes to it as to a file does what [others can do](Self#what-others-can-do): it is no more
/// prevented than writing to `/proc/self/mem`.
impl<T> AsFd for Shared<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.region.as_fd()
    }
}

impl<T> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mp_core::fd::serialize(self, serializer)
    }
}

impl<'de, T: ShmSafe + Send + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: OwnedFd = mp_core::fd::deserialize(deserializer)?;
        Self::try_from(file).map_err(AttachError::explained)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}
