//! Memory that other processes have mapped too.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};

use crate::sys::{regions, robust};

/// Shared memory in which locks tell of the death of their owner.
///
/// A lock works in any memory that several processes have mapped. That its next owner is told when
/// its owner died takes more: the kernel has to find the lock when a thread of this process ends,
/// so the memory must not go away before. A `SharedRegion` owns the mapping and sees to that. Each
/// process registers its own mapping; `mp-shm` does it for its types.
///
/// Dropping it unmaps the memory (drops `M`), unless a thread has leaked the guard of a lock in it
/// ([`mem::forget`](std::mem::forget)): then the memory stays mapped.
///
/// # Examples
///
/// A mapping of one's own, by `memmap2`:
///
/// ```
/// use mp_sync::{Mutex, SharedRegion};
///
/// let file = tempfile::tempfile()?; // or a memfd, or shm_open: whatever the other processes map too
/// file.set_len(4096)?;
/// let mapping = memmap2::MmapRaw::map_raw(&file)?;
/// let (start, length) = (mapping.as_mut_ptr(), mapping.len());
/// // SAFETY: it is a shared mapping that is not unmapped before the `MmapRaw` is dropped.
/// let region = unsafe { SharedRegion::new(mapping, start, length)? };
///
/// // The process that makes the memory writes a new lock there; the others use it once it is there.
/// let place = region.at::<Mutex<u64>>(64).ok_or("too small")?;
/// // SAFETY: nobody else uses these bytes yet; then, they hold a mutex.
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

// SAFETY: the pointer is an address; using it is up to unsafe code.
unsafe impl<M: Send> Send for SharedRegion<M> {}
// SAFETY: the same.
unsafe impl<M: Sync> Sync for SharedRegion<M> {}

impl<M> SharedRegion<M> {
    /// Registers `length` bytes at `start`, which `memory` keeps mapped.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library keeps no robust
    /// list in the known form; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if some of it is
    /// registered; [`InvalidInput`](io::ErrorKind::InvalidInput) for no bytes at all, or more than
    /// there are addresses.
    ///
    /// # Safety
    ///
    /// The bytes are readable and writable, and stay mapped until `memory` is dropped or, if it
    /// never is, until the process ends; whatever is done with `memory` through [`Deref`].
    /// References to locks in it must not outlive the region.
    pub unsafe fn new(memory: M, start: *mut u8, length: usize) -> io::Result<Self> {
        let bytes = match start.addr().checked_add(length) {
            Some(end) if length > 0 && end < isize::MAX as usize => start.addr()..end,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        robust::check()?;
        if !regions::add(&regions::pages_of(&bytes)) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this memory is registered already"));
        }
        Ok(Self { memory: ManuallyDrop::new(memory), bytes, start })
    }

    /// Where a value of that type would be at `offset` bytes from the start; `None` if it would not
    /// be inside, or not be aligned.
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        let place = self.start.wrapping_add(offset).cast::<T>();
        (end <= self.len() && place.is_aligned()).then_some(place)
    }

    /// Where it starts, in this process.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes, which is never so.
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
        // No reference to a lock in it is left, so what is held there was leaked, and stays so.
        // Whole pages: what is beside the bytes counts as shared too.
        let pages = regions::pages_of(&self.bytes);
        if !robust::holds_within(&pages) {
            regions::remove(&pages);
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl<M> fmt::Debug for SharedRegion<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRegion").field("start", &self.start).field("len", &self.len()).finish_non_exhaustive()
    }
}
