//! Many values under one lock.

mod error;
mod guard;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use memmap2::MmapRaw;
use mp_sync::{LockError, Mutex, MutexGuard, SharedRegion};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::ArrayError;
pub use self::guard::ArrayGuard;
use crate::segment::{self, HEADER, Kind, LOCK, Segment};
use crate::sys::{mapping, memfd};
use crate::{AttachError, ShmSafe};

/// As many values as are wanted, in memory that several processes share, which one thread at a time
/// reads or changes.
///
/// It is one piece of memory with one lock. [`lock`](Self::lock) lends all elements as a slice;
/// [`get`](Self::get), [`set`](Self::set) and [`update`](Self::update) take the lock for one of
/// them. It is sent inside other values, and clones are the same array. How long it is does not
/// change.
///
/// Clones in one process share one mapping and one descriptor. An array that is received anew is
/// another mapping, also of one that this process has already.
///
/// # Limits
///
/// Memory for an array of any length is made at once, but taken from the system page by page as it
/// is touched, and more than the machine or the control group has left at that moment is refused.
/// If others take that meanwhile, the system ends a process, as for want of any other memory; where
/// it counts memory strictly, all of it is set aside. Elements are aligned to no more than a page.
/// Elements without a size work: there may be `usize::MAX` of them.
///
/// # What others can do
///
/// The processes that share an array trust each other with it: one that writes over it with other
/// means than the type's can make others see wrong values, wait for ever, or keep the memory mapped
/// until they end. If the type has forbidden bytes, as a `bool` and an enum have, that is undefined
/// behaviour in those who read them. Its size is sealed, and its header is looked at once, by
/// whoever attaches it: this crate itself reads and writes nothing else.
///
/// # Process death
///
/// If a process dies while one of its threads holds the lock, or panics there,
/// [`LockError::OwnerDied`] says so to whoever comes next, and to all after it:
/// [`lock`](Self::lock) and [`get`](Self::get) give what was left behind along with it;
/// [`set`](Self::set) and [`update`](Self::update) change nothing, until somebody has mended it and
/// called [`ArrayGuard::mark_consistent`]. One that dies while it waits is of no consequence.
///
/// The elements are not dropped. Their memory is freed with the last process that has it, or with
/// the last message that it is in.
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

// The lock is right behind the header.
const _: () = assert!(HEADER % align_of::<Mutex<()>>() == 0 && size_of::<Mutex<()>>() <= LOCK);

// SAFETY: the pointers lead into the region, which belongs to it, and whose memory does not care
// which thread uses it; the elements are lent to one thread at a time.
unsafe impl<T: Send> Send for Inner<T> {}
// SAFETY: the same: as for `Mutex`, that a `T` may go from one thread to another is enough.
unsafe impl<T: Send> Sync for Inner<T> {}

impl<T: ShmSafe + Send> Array<T> {
    /// Makes an array of `len` elements of zero bytes.
    ///
    /// It does not compile for types of which zero bytes may not be a value
    /// ([`Layout::is_zeroable`](crate::Layout::is_zeroable)):
    ///
    /// ```compile_fail,E0080
    /// use std::num::NonZero;
    ///
    /// let array = mp_shm::Array::<NonZero<u8>>::zeroed(8);
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory) for more than memory holds; descriptors, address
    /// space or the limit on the sizes of files have run out;
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the kernel or the C library does not keep
    /// what [`SharedRegion`] needs.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        const { assert!(T::LAYOUT.is_zeroable(), "zero bytes are not a value of this type") };
        Self::create(len, |_| Ok(()))
    }

    /// Makes an array with copies of these elements.
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
            // By a write and not through the mapping, which would take one page fault after
            // another.
            // SAFETY: these are the bytes of the slice.
            unsafe { memfd::copy_at(segment.as_fd(), elements.as_ptr().cast(), size_of_val(elements), bytes.start) }
        })
    }

    fn create(len: usize, fill: impl FnOnce(&Segment<T>) -> io::Result<()>) -> io::Result<Self> {
        let segment = Segment::create(Kind::Array, len)?;
        fill(&segment)?;
        let inner = Inner::map(segment)?;
        // SAFETY: it is memory for a lock, mapped to be written, that nobody else has yet.
        unsafe { inner.lock.cast_mut().write(Mutex::new(())) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes the lock, waiting for as long as it takes, and lends the elements.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, see [above](Self#process-death);
    /// [`LockError::Deadlock`] if this thread has it.
    #[inline]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        match self.mutex().lock() {
            Ok(lock) => Ok(ArrayGuard::new(self, lock)),
            Err(error) => Err(error.map(|lock| ArrayGuard::new(self, lock))),
        }
    }

    /// Takes the lock if it is free; `None` if somebody has it, be it this thread.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<ArrayGuard<'_, T>>, LockError<ArrayGuard<'_, T>>> {
        self.lent(self.mutex().try_lock())
    }

    /// Takes the lock, waiting no longer than that; `None` if somebody has had it all the time. No
    /// time at all is [`try_lock`](Self::try_lock), but for a lock that this thread has.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<ArrayGuard<'_, T>>, LockError<ArrayGuard<'_, T>>> {
        self.lent(self.mutex().lock_timeout(timeout))
    }

    /// A copy of an element.
    ///
    /// # Errors
    ///
    /// [`ArrayError::OutOfBounds`]; [`LockError::OwnerDied`] with a copy of the element as it was
    /// left; [`LockError::Deadlock`] if this thread has the lock.
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

    /// Puts another value in place of an element.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update): then the old one stays.
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        self.update(index, |place| *place = value)
    }

    /// Lends an element to `change`, under the lock, and returns what that returns.
    ///
    /// If `change` panics, the elements count as half changed: others get [`LockError::OwnerDied`].
    ///
    /// # Errors
    ///
    /// [`ArrayError::OutOfBounds`]; [`LockError::OwnerDied`], see [above](Self#process-death);
    /// [`LockError::Deadlock`] if this thread has the lock, because it calls this from within
    /// `change` for example. `change` is not called then.
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
    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.inner.segment.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn mutex(&self) -> &Mutex<()> {
        // SAFETY: the region has one there, since before anybody else had the memory, aligned, and
        // mapped as long as this is there. It is made of atomics.
        unsafe { &*self.inner.lock }
    }

    /// Where the elements are, in this process.
    #[inline]
    fn elements(&self) -> *mut T {
        self.inner.elements
    }

    /// What came of trying to lock, with the elements.
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
        let mapping = mapping::writable(segment.as_fd(), segment.everything())?;
        let (start, length) = (mapping.as_mut_ptr(), mapping.len());
        // SAFETY: it is a shared mapping of a file whose size is sealed, which the `MmapRaw` ends
        // when it is dropped; it is used for its address alone. References to the lock do not
        // outlive this.
        let region = unsafe { SharedRegion::new(mapping, start, length)? };
        let lock = region.at::<Mutex<()>>(HEADER).ok_or(io::ErrorKind::InvalidData)?;
        // There may be no first element. The last one ends where the mapping does.
        let elements = region.at::<[T; 0]>(segment::start::<T>(Kind::Array)).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { segment, _region: region, lock, elements: elements.cast() })
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// Attaches the memory of an [`Array`] whose descriptor ([`AsFd`]) came by other means than a
/// message of this library.
///
/// Whoever gave it is trusted with its contents, as is everybody who has it.
impl<T: ShmSafe + Send> TryFrom<OwnedFd> for Array<T> {
    type Error = AttachError;

    fn try_from(file: OwnedFd) -> Result<Self, AttachError> {
        match Segment::attach(file, Kind::Array)? {
            (_, true) => Err(AttachError::Frozen),
            (segment, false) => Ok(Self { inner: Arc::new(Inner::map(segment)?) }),
        }
    }
}

/// The memory, as a descriptor, to be passed on, and to become an `Array` again elsewhere. Whoever
/// writes to it as to a file does what [others can do](Self#what-others-can-do): it is no more
/// prevented than writing to `/proc/self/mem`.
impl<T> AsFd for Array<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.segment.as_fd()
    }
}

impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mp_core::fd::serialize(self, serializer)
    }
}

impl<'de, T: ShmSafe + Send> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: OwnedFd = mp_core::fd::deserialize(deserializer)?;
        Self::try_from(file).map_err(AttachError::explained)
    }
}

/// Does not wait: without the elements, if somebody has the lock.
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
