//! `SharedRegion`: memory that several processes have mapped.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};

use crate::sys::{regions, robust};

/// Shared memory in which locks report the death of their owner.
///
/// A lock works in any memory that several processes have mapped. To report the death of its owner,
/// the kernel has to find the lock when a thread of this process ends, so the memory must still be
/// mapped then. A `SharedRegion` owns the mapping and guarantees that. Each process registers its
/// own mapping; `mp-shm` does so for its types.
///
/// Dropping it drops `M`, which unmaps the memory. If a thread has leaked the guard of a lock in it
/// ([`mem::forget`](std::mem::forget)), the memory stays mapped instead.
///
/// # Examples
///
/// A mapping made with `memmap2`:
///
/// ```
/// use mp_sync::{Mutex, SharedRegion};
///
/// let file = tempfile::tempfile()?; // or a memfd, or shm_open: whatever the other processes map too
/// file.set_len(4096)?;
/// let mapping = memmap2::MmapRaw::map_raw(&file)?;
/// let (start, length) = (mapping.as_mut_ptr(), mapping.len());
/// // SAFETY: this is a shared mapping that is not unmapped before the `MmapRaw` is dropped.
/// let region = unsafe { SharedRegion::new(mapping, start, length)? };
///
/// // The process that makes the memory writes a new lock there. The others use it after that.
/// let place = region.at::<Mutex<u64>>(64).ok_or("too small")?;
/// // SAFETY: no other code uses these bytes yet. After the write they contain a mutex.
/// let mutex = unsafe {
///     place.write(Mutex::new(7));
///     &*place
/// };
/// *mutex.lock()? += 1;
/// assert_eq!(*mutex.lock()?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedRegion<M> {
    memory: ManuallyDrop<M>,
    bytes: Range<usize>,
    start: *mut u8,
}

// SAFETY: the pointer is only an address. Only unsafe code dereferences it.
unsafe impl<M: Send> Send for SharedRegion<M> {}
// SAFETY: as above.
unsafe impl<M: Sync> Sync for SharedRegion<M> {}

impl<M> SharedRegion<M> {
    /// Registers `length` bytes at `start`, which `memory` keeps mapped.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library has no robust
    /// list in the known form; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if some of the
    /// memory is registered already; [`InvalidInput`](io::ErrorKind::InvalidInput) if `length` is
    /// zero or exceeds the address space.
    ///
    /// # Safety
    ///
    /// The bytes are readable and writable, and stay mapped until `memory` is dropped, or until the
    /// process ends if it never is. Nothing that can be done with `memory` through [`Deref`] may
    /// change that. References to locks in the memory must not outlive the region.
    pub unsafe fn new(memory: M, start: *mut u8, length: usize) -> io::Result<Self> {
        let bytes = match start.addr().checked_add(length) {
            Some(end) if length > 0 && end < isize::MAX as usize => start.addr()..end,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        robust::check()?;
        if !regions::add(&regions::pages_of(&bytes)) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the memory is already registered"));
        }
        Ok(Self { memory: ManuallyDrop::new(memory), bytes, start })
    }

    /// Returns the address of a `T` at `offset` bytes from the start, or `None` if it would not be
    /// within the region or not be aligned.
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        let place = self.start.wrapping_add(offset).cast::<T>();
        (end <= self.len() && place.is_aligned()).then_some(place)
    }

    /// Returns the start address in this process.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns false, because a region is never empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<M> Deref for SharedRegion<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.memory
    }
}

impl<M> Drop for SharedRegion<M> {
    fn drop(&mut self) {
        // No reference to a lock in the region is left, so a lock that is still held was leaked.
        // Whole pages, because the bytes around the region count as shared too.
        let pages = regions::pages_of(&self.bytes);
        if !robust::holds_within(&pages) {
            regions::remove(&pages);
            // SAFETY: the memory is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl<M> fmt::Debug for SharedRegion<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRegion").field("start", &self.start).field("len", &self.len()).finish_non_exhaustive()
    }
}
