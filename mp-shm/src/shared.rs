//! `Shared`: a value that several processes use in place.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::raw::Region;
use crate::{AttachError, ShmSafe, Zeroable};

/// A reference to a value in shared memory, like an [`Arc`] that works across processes.
///
/// It can be part of any message, argument or result, and the receiver refers to the same value. As
/// in an `Arc`, the parts of the value that change are locks or atomics. A struct of several of
/// them can be in one `Shared`: see [`ShmSafe`](trait@ShmSafe) and [its derive](derive@ShmSafe).
///
/// Clones in one process share one mapping and one descriptor. Each `Shared` that is received makes
/// a new mapping, even if this process already has the value.
///
/// # Trust
///
/// Processes that share a value have to trust each other. One that overwrites the memory by other
/// means than the type's methods can make other processes read wrong values, wait indefinitely, or
/// keep the memory mapped until they end. If some bytes are not valid for the type, as for `bool`
/// and enums, reading them is undefined behaviour. The size of the memory is sealed, and attaching
/// reads its header once. So this crate never reads or writes outside of the memory.
///
/// # Process death
///
/// The value is not dropped. The kernel frees its memory with the last process that has it and the
/// last message that contains it. A lock in it reports the death of its owner by
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
    /// Moves `value` to new shared memory, which takes at least a page.
    ///
    /// # Errors
    ///
    /// Fails if there is no free descriptor, memory or address space.
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library lacks what
    /// [`SharedRegion`](mp_sync::SharedRegion) needs.
    pub fn new(value: T) -> io::Result<Self> {
        Ok(Self { region: Arc::new(Region::create(value, 0)?) })
    }

    /// Makes new shared memory whose value is zero bytes, without writing it. It is for values that
    /// are too large for the stack.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn zeroed() -> io::Result<Self>
    where
        T: Zeroable,
    {
        Ok(Self { region: Arc::new(Region::zeroed(0)?) })
    }

    /// Tells whether both are clones of each other in this process.
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

impl<T: ShmSafe + Send + Sync> Shared<T> {
    pub(crate) fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        let region = Region::attach(file)?;
        if region.is_empty() { Ok(Self { region: Arc::new(region) }) } else { Err(AttachError::Type) }
    }
}

impl<T> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.region.file().serialize(serializer)
    }
}

impl<'de, T: ShmSafe + Send + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: OwnedFd = mp_core::fd::deserialize(deserializer)?;
        Self::attach(file).map_err(AttachError::explained)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}
