//! Memory that nobody can write any more.

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
use crate::{AttachError, Buffer, ShmSafe, part};

/// Values in memory that no process can write any more: read by as many as like to, without a copy.
///
/// It comes from [`Buffer::freeze`]. A clone is a handle, and so is what is sent: a descriptor
/// travels, however large it is. A [`slice`](Self::slice) of it travels alike, and its receiver
/// maps no more than that.
///
/// # What others can do
///
/// Nothing: the system refuses to write, to map it to be written, to shorten it, whoever asks and
/// however. Receiving one checks that it is so, and the values are plain data of which all bytes
/// are valid, so it may come from a process that is not trusted: whatever the values are, they stay
/// what they are.
///
/// # Process death
///
/// The memory is freed with the last process that has it and the last message that it is in.
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
    /// Which values of the segment.
    range: Range<usize>,
    first: NonNull<T>,
}

struct Memory<T> {
    segment: Segment<T>,
    /// `None` if there is not a byte to be mapped. It keeps the values where they are.
    _mapping: Option<MmapRaw>,
}

// SAFETY: its values are never written, so sharing it is like sharing a slice of them.
unsafe impl<T: Sync> Send for FrozenBuffer<T> {}
// SAFETY: the same.
unsafe impl<T: Sync> Sync for FrozenBuffer<T> {}

impl<T: ShmSafe + Copy> FrozenBuffer<T> {
    /// Makes a frozen buffer of copies of the values.
    ///
    /// # Errors
    ///
    /// As [`Buffer::from_slice`] and [`Buffer::freeze`].
    pub fn from_slice(values: &[T]) -> io::Result<Self> {
        Buffer::from_slice(values)?.freeze().map_err(|error| error.source)
    }

    /// Takes a segment that is sealed against writers, with some of its values mapped.
    pub(crate) fn new(segment: Segment<T>, mapping: Option<MmapRaw>, values: Range<usize>) -> Self {
        let first = mapping.as_ref().and_then(|mapping| NonNull::new(mapping.as_mut_ptr().cast::<T>()));
        let memory = Memory { segment, _mapping: mapping };
        Self { memory: Arc::new(memory), range: values, first: first.unwrap_or(NonNull::dangling()) }
    }

    fn attach(segment: Segment<T>, values: Range<usize>, frozen: bool) -> Result<Self, AttachError> {
        if !frozen {
            return Err(AttachError::NotFrozen);
        }
        let mapping = segment.map_to_read(&values)?;
        Ok(Self::new(segment, mapping, values))
    }
}

impl<T> FrozenBuffer<T> {
    /// Some of the values, as a handle of its own: in this process the memory is shared, and
    /// another one gets no more than these.
    ///
    /// # Panics
    ///
    /// If there are not so many values.
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
            panic!("a slice from {start:?} to {end:?} of {length} values");
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
        // SAFETY: these values are mapped as long as this is there, aligned, and of any bytes
        // (`Buffer::PLAIN`, which all ways to make one demand). The file is sealed: nobody writes
        // them, or takes them away.
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

/// The memory, as a descriptor: that of the whole buffer, of which this may be a slice. It can be
/// read only.
impl<T> AsFd for FrozenBuffer<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.segment.as_fd()
    }
}

/// Attaches the memory of a [`FrozenBuffer`] whose descriptor ([`AsFd`]) came by other means than a
/// message of this library: all of it.
///
/// Values are aligned to a page of 4,096 bytes at most, here as everywhere:
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
impl<T: ShmSafe + Copy> TryFrom<OwnedFd> for FrozenBuffer<T> {
    type Error = AttachError;

    fn try_from(file: OwnedFd) -> Result<Self, AttachError> {
        let () = Buffer::<T>::PLAIN;
        let (segment, frozen) = Segment::attach(file, Kind::Buffer)?;
        let everything = 0..segment.len();
        Self::attach(segment, everything, frozen)
    }
}

impl<T> Serialize for FrozenBuffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        part::serialize(self.as_fd(), &self.range, serializer)
    }
}

impl<'de, T: ShmSafe + Copy> Deserialize<'de> for FrozenBuffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let () = Buffer::<T>::PLAIN;
        let (segment, values, frozen) = part::deserialize(deserializer)?;
        Self::attach(segment, values, frozen).map_err(AttachError::explained)
    }
}

impl<T: fmt::Debug> fmt::Debug for FrozenBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
