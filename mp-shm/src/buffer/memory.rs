//! Part of a segment, mapped, and the right to use some of it.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memmap2::MmapRaw;

use crate::ShmSafe;
use crate::segment::Segment;
use crate::sys::{memfd, pages, ranges};

/// Values of a segment that are mapped here, to be written.
///
/// The description that the segment's file is open by belongs to this alone, and holds the locks of
/// what is owned through it: so nobody else gets these values before they are given back, or this
/// is dropped, or the process ends.
pub(super) struct Memory<T> {
    segment: Segment<T>,
    /// `None` if there is not a byte to be mapped.
    mapping: Option<MmapRaw>,
    mapped: Range<usize>,
    /// A number for the description, which two of these may share.
    description: u64,
}

static DESCRIPTIONS: AtomicU64 = AtomicU64::new(0);

/// From this many bytes on, mappings are taken down beside the work: a gigabyte takes as long as
/// some hundred thousand messages.
const LARGE: usize = 64 << 20;

impl<T: ShmSafe> Memory<T> {
    /// Makes memory of zeros for `length` values, all of which this owns.
    pub(super) fn create(segment: Segment<T>) -> io::Result<Self> {
        let everything = 0..segment.len();
        let memory = Self::map(segment, everything.clone())?;
        if let Some(mapping) = memory.mapping.as_ref().filter(|mapping| mapping.len() >= LARGE) {
            pages::prefer_huge(mapping);
        }
        match memory.try_own(&everything)? {
            true => Ok(memory),
            // Nobody else has it.
            false => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// Maps some values of a segment, whose description becomes this one's own. None of them is
    /// owned yet.
    pub(super) fn map(segment: Segment<T>, values: Range<usize>) -> io::Result<Self> {
        let mapping = segment.map(&values)?;
        let description = DESCRIPTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { segment, mapping, mapped: values, description })
    }

    /// The same values and the same rights, with all of the segment mapped.
    pub(super) fn whole(&self) -> io::Result<Self> {
        let file = memfd::duplicate(self.segment.as_fd())?;
        let segment = self.segment.with_file(file);
        let everything = 0..segment.len();
        Ok(Self { description: self.description, ..Self::map(segment, everything)? })
    }
}

impl<T> Memory<T> {
    pub(super) fn segment(&self) -> &Segment<T> {
        &self.segment
    }

    /// Whether the two have the same rights, and so the same locks.
    pub(super) fn is_open_with(&self, other: &Self) -> bool {
        self.description == other.description
    }

    /// Whether these values are mapped.
    pub(super) fn has(&self, values: &Range<usize>) -> bool {
        values.is_empty() || self.mapped.start <= values.start && values.end <= self.mapped.end
    }

    /// Where the value of that index is mapped; somewhere aligned if no values are.
    pub(super) fn at(&self, index: usize) -> NonNull<T> {
        let first = self.mapping.as_ref().and_then(|mapping| NonNull::new(mapping.as_mut_ptr().cast::<T>()));
        match first {
            Some(first) => {
                let from_first = index.saturating_sub(self.mapped.start).min(self.mapped.len());
                NonNull::new(first.as_ptr().wrapping_add(from_first)).unwrap_or(first)
            }
            None => NonNull::dangling(),
        }
    }

    /// Takes the values if nobody else has any of them, and tells whether this has them now.
    pub(super) fn try_own(&self, values: &Range<usize>) -> io::Result<bool> {
        ranges::try_take(self.segment.as_fd(), self.segment.bytes(values))
    }

    /// Lets others have the values.
    pub(super) fn disown(&self, values: &Range<usize>) {
        // It fails if the kernel has no memory to note that only part of a range is left: then the
        // values stay taken until this is dropped.
        let _ = ranges::give_back(self.segment.as_fd(), self.segment.bytes(values));
    }

    /// A descriptor for another process: of a description of its own, so that the receiver has none
    /// of the locks.
    pub(super) fn for_others(&self) -> io::Result<OwnedFd> {
        memfd::reopen(self.segment.as_fd())
    }

    /// Has the pages made that these values are in.
    pub(super) fn populate(&self, values: &Range<usize>) -> io::Result<()> {
        let Some(mapping) = &self.mapping else { return Ok(()) };
        let start = values.start.saturating_sub(self.mapped.start) * size_of::<T>();
        let length = values.len() * size_of::<T>();
        match pages::populate(mapping, start..start + length) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                memfd::commit(self.segment.as_fd(), self.segment.bytes(values))
            }
            result => result,
        }
    }

    /// Ends the mapping, and gives the segment back, with its locks.
    pub(super) fn into_segment(self) -> Segment<T> {
        self.segment
    }

    /// Ends the mapping, beside the work if that takes long: what was mapped belongs to another
    /// process by now.
    pub(super) fn unmap(&mut self) {
        if let Some(mapping) = self.mapping.take_if(|mapping| mapping.len() >= LARGE) {
            // If there can be no thread, the closure is dropped here, and the mapping with it.
            let _ = thread::Builder::new().name("mp-shm unmap".to_owned()).spawn(move || pages::take_down(mapping));
        }
    }
}
