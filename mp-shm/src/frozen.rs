//! Memory that no process can write.

use std::fmt;
use std::io;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use memmap2::MmapRaw;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::segment::{Kind, Segment};
use crate::sys::memfd;
use crate::{AnyBits, AttachError, Buffer, part};

/// Values in memory that no process can write, for any number of readers, without a copy.
///
/// [`Buffer::freeze`] makes one. Clones share the memory. Only a descriptor is sent, however large
/// the buffer is. A [`slice`](Self::slice) is sent in the same way, and its receiver maps only that
/// part.
///
/// # Trust
///
/// No trust is needed. The kernel lets no process write the memory, map it for writing or shorten
/// it. Receiving one checks that. The values are plain data for which all bytes are valid. So a
/// frozen buffer may come from an untrusted process: whatever its values are, they do not change,
/// and reading them allocates no memory.
///
/// # Process death
///
/// The kernel frees the memory with the last process that has it and the last message that contains
/// it.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::FrozenBuffer;
///
/// #[process_fn]
/// fn sum(numbers: FrozenBuffer<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// let numbers = FrozenBuffer::from_slice(&[1, 2, 3, 4])?;
/// let all = sum::spawn(numbers.clone())?;
/// let last = sum::spawn(numbers.slice(2..))?;
/// assert_eq!((all.join()?, last.join()?), (10, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FrozenBuffer<T> {
    memory: Arc<Memory<T>>,
    /// The range of values in the segment.
    range: Range<usize>,
    first: NonNull<T>,
}

struct Memory<T> {
    segment: Segment<T>,
    /// Keeps the values mapped. `None` if there are no bytes to map.
    _mapping: Option<MmapRaw>,
}

// SAFETY: the values are never written, so sharing this is like sharing a slice.
unsafe impl<T: Sync> Send for FrozenBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for FrozenBuffer<T> {}

impl<T: AnyBits + Copy> FrozenBuffer<T> {
    /// Makes a frozen buffer of copies of the values.
    ///
    /// # Errors
    ///
    /// As [`Buffer::from_slice`] and [`Buffer::freeze`].
    pub fn from_slice(values: &[T]) -> io::Result<Self> {
        Buffer::from_slice(values)?.freeze().map_err(|error| error.source)
    }

    /// Maps some values of a segment that is sealed against writing.
    pub(crate) fn new(segment: Segment<T>, mapping: Option<MmapRaw>, values: Range<usize>) -> Self {
        let first = mapping.as_ref().and_then(|mapping| NonNull::new(mapping.as_mut_ptr().cast::<T>()));
        let memory = Memory { segment, _mapping: mapping };
        Self { memory: Arc::new(memory), range: values, first: first.unwrap_or(NonNull::dangling()) }
    }

    fn attach(segment: Segment<T>, values: Range<usize>, frozen: bool) -> Result<Self, AttachError> {
        if !frozen {
            return Err(AttachError::NotFrozen);
        }
        if !memfd::is_allocated(segment.as_fd())? {
            return Err(AttachError::Holes);
        }
        let mapping = segment.map_to_read(&values)?;
        Ok(Self::new(segment, mapping, values))
    }
}

impl<T> FrozenBuffer<T> {
    /// Returns a frozen buffer of some of the values. In this process they share the memory; a
    /// process that receives the slice maps only its values.
    ///
    /// # Panics
    ///
    /// If the range is not within the values.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let length = self.range.len();
        let start = match range.start_bound() {
            Bound::Included(&start) => Some(start),
            Bound::Excluded(&before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.checked_add(1),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => Some(length),
        };
        let Some((start, end)) = start.zip(end).filter(|(start, end)| start <= end && *end <= length) else {
            panic!("the range from {start:?} to {end:?} is not within {length} values");
        };
        let first = &self[start..end];
        Self {
            memory: Arc::clone(&self.memory),
            range: self.range.start + start..self.range.start + end,
            first: NonNull::from(first).cast(),
        }
    }
}

impl<T> Deref for FrozenBuffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: these values are aligned and mapped as long as `self` exists, and any bytes are
        // valid (`AnyBits`, which every constructor requires). The file is sealed, so no
        // process writes the values or removes them.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.range.len()) }
    }
}

impl<T> Clone for FrozenBuffer<T> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), range: self.range.clone(), first: self.first }
    }
}

impl<T> AsRef<[T]> for FrozenBuffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

/// The descriptor of the memory of the whole buffer, even if this is a slice. It is read-only.
impl<T> AsFd for FrozenBuffer<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.segment.as_fd()
    }
}

/// Attaches the whole memory of a [`FrozenBuffer`] whose descriptor ([`AsFd`]) arrived by other
/// means than a message of this library.
///
/// As everywhere in this crate, values can be aligned to a page of 4,096 bytes at most:
///
/// ```compile_fail,E0080
/// #[derive(mp_shm::ShmSafe, Clone, Copy)]
/// #[repr(align(8192))]
/// struct Wide([u8; 8192]);
///
/// let file = std::os::fd::OwnedFd::from(tempfile::tempfile()?);
/// let frozen = mp_shm::FrozenBuffer::<Wide>::try_from(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: AnyBits + Copy> TryFrom<OwnedFd> for FrozenBuffer<T> {
    type Error = AttachError;

    fn try_from(file: OwnedFd) -> Result<Self, AttachError> {
        let (segment, frozen) = Segment::attach(file, Kind::Buffer)?;
        let everything = 0..segment.len();
        Self::attach(segment, everything, frozen)
    }
}

impl<T> Serialize for FrozenBuffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        part::serialize(self.memory.segment.file(), &self.range, serializer)
    }
}

impl<'de, T: AnyBits + Copy> Deserialize<'de> for FrozenBuffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (segment, values, frozen) = part::deserialize(deserializer)?;
        Self::attach(segment, values, frozen).map_err(AttachError::explained)
    }
}

impl<T: fmt::Debug> fmt::Debug for FrozenBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
