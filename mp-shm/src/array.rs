//! `Array`: many values under one lock.

mod error;
mod guard;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use memmap2::MmapRaw;
use mp_sync::{LockError, Mutex, MutexGuard, SharedRegion};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::ArrayError;
pub use self::guard::ArrayGuard;
use crate::segment::{self, HEADER, Kind, LOCK, Segment};
use crate::sys::{mapping, memfd};
use crate::{AttachError, ShmSafe, Zeroable};

/// Values in shared memory, of a number chosen at run time, with one lock.
///
/// [`lock`](Self::lock) lends all elements as a slice. [`get`](Self::get), [`set`](Self::set) and
/// [`update`](Self::update) take the lock for one element. An array can be part of any message,
/// argument or result, and every clone and every received copy refers to the same elements. Its
/// length is fixed.
///
/// Clones in one process share one mapping and one descriptor. Each array that is received makes a
/// new mapping, even if this process already has the array.
///
/// # Limits
///
/// Making an array takes no memory until its pages are touched. Asking for more memory than the
/// machine or the control group has left is an error. If memory runs out later, the OOM killer ends
/// a process, as with any memory. If the system does not overcommit, the kernel reserves all of the
/// memory at once. Elements can be aligned to a page of 4,096 bytes at most. Zero-sized elements
/// work: there can be `usize::MAX` of them.
///
/// # Trust
///
/// Processes that share an array have to trust each other. One that overwrites the memory by other
/// means than these methods can make other processes read wrong values, wait indefinitely, or keep
/// the memory mapped until they end. If some bytes are not valid for the type, as for `bool` and
/// enums, reading them is undefined behaviour. The size of the memory is sealed, and attaching
/// reads its header once. So this crate never reads or writes outside of the memory.
///
/// # Process death
///
/// If a thread that holds the lock panics, or its process dies, every later owner gets
/// [`LockError::OwnerDied`], until one repairs the elements and calls
/// [`ArrayGuard::mark_consistent`]. Until then, the error of [`lock`](Self::lock) and
/// [`get`](Self::get) contains the guard or the element, and [`set`](Self::set) and
/// [`update`](Self::update) change nothing. The death of a process that waits for the lock has no
/// effect.
///
/// The elements are not dropped. The kernel frees their memory with the last process that has it
/// and the last message that contains it.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::Array;
///
/// #[process_fn]
/// fn histogram(counts: Array<u64>, bytes: Vec<u8>) {
///     let mut counts = counts.lock().expect("nobody died");
///     for byte in bytes {
///         counts[usize::from(byte)] += 1;
///     }
/// }
///
/// let counts = Array::zeroed(256)?;
/// let processes = ["abba", "cab"].map(|text| histogram::spawn(counts.clone(), text.into()));
/// for process in processes {
///     process?.join()?;
/// }
/// assert_eq!(counts.lock().expect("nobody died")[usize::from(b'a')..][..4], [3, 3, 1, 0]);
///
/// counts.set(0, 7)?;
/// counts.update(0, |count| *count += 1)?;
/// assert_eq!(counts.get(0)?, 8);
/// assert_eq!(counts.set(256, 7).unwrap_err().to_string(), "there is no element 256 in an array of 256");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Array<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    segment: Segment<T>,
    /// Keeps the memory mapped.
    _region: SharedRegion<MmapRaw>,
    lock: *const Mutex<()>,
    elements: *mut T,
}

// The lock is directly after the header.
const _: () = assert!(HEADER % align_of::<Mutex<()>>() == 0 && size_of::<Mutex<()>>() <= LOCK);

// SAFETY: the pointers are into the region, which this owns and which any thread may use. The lock
// lends the elements to one thread at a time.
unsafe impl<T: Send> Send for Inner<T> {}
// SAFETY: as above. As for `Mutex`, `T: Send` is enough.
unsafe impl<T: Send> Sync for Inner<T> {}

impl<T: ShmSafe + Send> Array<T> {
    /// Makes an array of `len` elements of zero bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory) if there is not enough memory. Other errors if
    /// there is no free descriptor or address space, or if the file would exceed the limit on file
    /// sizes. [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library lacks what
    /// [`SharedRegion`] needs.
    pub fn zeroed(len: usize) -> io::Result<Self>
    where
        T: Zeroable,
    {
        Self::create(len, |_| Ok(()))
    }

    /// Makes an array of copies of these elements.
    ///
    /// # Errors
    ///
    /// As for [`zeroed`](Self::zeroed).
    pub fn from_slice(elements: &[T]) -> io::Result<Self>
    where
        T: Copy,
    {
        Self::create(elements.len(), |segment| {
            let bytes = segment.bytes(&(0..elements.len()));
            // By a write, because writing through the mapping would take a page fault for each
            // page. SAFETY: these are the bytes of the slice.
            unsafe { memfd::copy_at(segment.as_fd(), elements.as_ptr().cast(), size_of_val(elements), bytes.start) }
        })
    }

    fn create(len: usize, fill: impl FnOnce(&Segment<T>) -> io::Result<()>) -> io::Result<Self> {
        let segment = Segment::create(Kind::Array, len)?;
        fill(&segment)?;
        let inner = Inner::map(segment)?;
        // SAFETY: this is memory for a lock, mapped for writing. No other thread or process has it
        // yet.
        unsafe { inner.lock.cast_mut().write(Mutex::new(())) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits for the lock, and lends the elements.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard: see [above](Self#process-death).
    /// [`LockError::Deadlock`] if this thread holds the lock.
    #[inline]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        match self.mutex().lock() {
            Ok(lock) => Ok(ArrayGuard::new(self, lock)),
            Err(error) => Err(error.map(|lock| ArrayGuard::new(self, lock))),
        }
    }

    /// Takes the lock if it is free. Returns `None` if a thread holds it, even this thread.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<ArrayGuard<'_, T>>, LockError<ArrayGuard<'_, T>>> {
        self.lent(self.mutex().try_lock())
    }

    /// Waits for the lock for `timeout` at most, and returns `None` if it was not free in time.
    /// With a timeout of zero it is [`try_lock`](Self::try_lock), except that it returns an error
    /// if this thread holds the lock.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<ArrayGuard<'_, T>>, LockError<ArrayGuard<'_, T>>> {
        self.lent(self.mutex().lock_timeout(timeout))
    }

    /// Returns a copy of an element.
    ///
    /// # Errors
    ///
    /// [`ArrayError::OutOfBounds`]; [`LockError::OwnerDied`] with a copy of the element as the dead
    /// owner left it; [`LockError::Deadlock`] if this thread holds the lock.
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, ArrayError<T>>
    where
        T: Copy,
    {
        self.check(index)?;
        match self.lock() {
            Ok(elements) => Ok(elements[index]),
            Err(error) => Err(error.map(|elements| elements[index]).into()),
        }
    }

    /// Replaces an element.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update). The element is unchanged then.
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        self.update(index, |place| *place = value)
    }

    /// Calls `change` with a mutable reference to an element, under the lock, and returns its
    /// result.
    ///
    /// If `change` panics, later owners get [`LockError::OwnerDied`].
    ///
    /// # Errors
    ///
    /// [`ArrayError::OutOfBounds`]; [`LockError::OwnerDied`]: see [above](Self#process-death);
    /// [`LockError::Deadlock`] if this thread holds the lock, for example because `change` itself
    /// calls this. `change` is not called then.
    #[inline]
    pub fn update<R>(&self, index: usize, change: impl FnOnce(&mut T) -> R) -> Result<R, ArrayError> {
        self.check(index)?;
        match self.lock() {
            Ok(mut elements) => Ok(change(&mut elements[index])),
            Err(error) => Err(error.map(drop).into()),
        }
    }

    #[inline]
    fn check<G>(&self, index: usize) -> Result<(), ArrayError<G>> {
        let len = self.len();
        if index < len { Ok(()) } else { Err(ArrayError::OutOfBounds { index, len }) }
    }
}

impl<T> Array<T> {
    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.inner.segment.len()
    }

    /// Tells whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn mutex(&self) -> &Mutex<()> {
        // SAFETY: the region contains an aligned lock there, which was written before any other
        // process had the memory. It is mapped as long as `self` exists, and consists of atomics.
        unsafe { &*self.inner.lock }
    }

    /// The address of the elements in this process.
    #[inline]
    fn elements(&self) -> *mut T {
        self.inner.elements
    }

    /// Adds the elements to the result of a lock operation.
    #[inline]
    #[allow(clippy::type_complexity, reason = "it is what the lock's methods return")]
    fn lent<'a>(
        &'a self,
        result: Result<Option<MutexGuard<'a, ()>>, LockError<MutexGuard<'a, ()>>>,
    ) -> Result<Option<ArrayGuard<'a, T>>, LockError<ArrayGuard<'a, T>>> {
        match result {
            Ok(lock) => Ok(lock.map(|lock| ArrayGuard::new(self, lock))),
            Err(error) => Err(error.map(|lock| ArrayGuard::new(self, lock))),
        }
    }
}

impl<T: ShmSafe> Inner<T> {
    fn map(segment: Segment<T>) -> io::Result<Self> {
        // The elements are lent mutably.
        const { T::LAYOUT.lent() };
        let mapping = mapping::writable(segment.as_fd(), segment.everything())?;
        let (start, length) = (mapping.as_mut_ptr(), mapping.len());
        // SAFETY: this is a shared mapping of a file of sealed size. Only its address is used, and
        // dropping the `MmapRaw` unmaps it. No reference to the lock outlives this value.
        let region = unsafe { SharedRegion::new(mapping, start, length)? };
        let lock = region.at::<Mutex<()>>(HEADER).ok_or(io::ErrorKind::InvalidData)?;
        // There may be no element. The last one ends where the mapping ends.
        let elements = region.at::<[T; 0]>(segment::start::<T>(Kind::Array)).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { segment, _region: region, lock, elements: elements.cast() })
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: ShmSafe + Send> Array<T> {
    fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        match Segment::attach(file, Kind::Array)? {
            (_, true) => Err(AttachError::Frozen),
            (segment, false) => Ok(Self { inner: Arc::new(Inner::map(segment)?) }),
        }
    }
}

impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.segment.file().serialize(serializer)
    }
}

impl<'de, T: ShmSafe + Send> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: OwnedFd = mp_core::fd::deserialize(deserializer)?;
        Self::attach(file).map_err(AttachError::explained)
    }
}

/// Does not wait: it shows no elements if a thread holds the lock.
impl<T: fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("Array");
        output.field("len", &self.len());
        match self.lent(self.mutex().try_lock()) {
            Ok(Some(guard)) => output.field("elements", &&*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("elements", &&*guard),
            _ => output.field("elements", &format_args!("<locked>")),
        };
        output.finish()
    }
}
