//! A mapped part of a segment, and the locks of the values in it.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memmap2::MmapRaw;
use mp_core::raw::forks;

use crate::ShmSafe;
use crate::segment::Segment;
use crate::sys::{memfd, pages, ranges};

/// Values of a segment that are mapped for writing.
///
/// It alone uses its open file description, which holds the locks of the values that it owns. So no
/// one else gets these values before it unlocks them, is dropped, or its process ends.
pub(super) struct Memory<T> {
    segment: Segment<T>,
    /// `None` if there are no bytes to map.
    mapping: Option<MmapRaw>,
    mapped: Range<usize>,
    /// The number of the description, which several of these may share.
    description: u64,
    /// The process that has the locks is the one with this number. A copy of it, made by `fork`,
    /// shares the description, so it would unlock what the original owns.
    forks: u32,
}

static DESCRIPTIONS: AtomicU64 = AtomicU64::new(0);

/// Mappings of at least this many bytes are unmapped on another thread. Unmapping a gigabyte takes
/// as long as sending some hundred thousand messages.
const LARGE: usize = 64 << 20;

impl<T: ShmSafe> Memory<T> {
    /// Makes zeroed memory for `length` values, and owns all of them.
    pub(super) fn create(segment: Segment<T>) -> io::Result<Self> {
        let everything = 0..segment.len();
        let memory = Self::map(segment, everything.clone())?;
        if let Some(mapping) = memory.mapping.as_ref().filter(|mapping| mapping.len() >= LARGE) {
            pages::prefer_huge(mapping);
        }
        match memory.try_own(&everything)? {
            true => Ok(memory),
            // No other process has the memory.
            false => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// Maps some values of a segment, and takes its description. It does not lock any of them.
    pub(super) fn map(segment: Segment<T>, values: Range<usize>) -> io::Result<Self> {
        let mapping = segment.map(&values)?;
        let description = DESCRIPTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { segment, mapping, mapped: values, description, forks: forks() })
    }

    /// Returns memory with the same description and locks, and with all of the segment mapped.
    pub(super) fn whole(&self) -> io::Result<Self> {
        let file = memfd::duplicate(self.segment.as_fd())?;
        let segment = self.segment.with_file(file);
        let everything = 0..segment.len();
        Ok(Self { description: self.description, forks: self.forks, ..Self::map(segment, everything)? })
    }
}

impl<T> Memory<T> {
    pub(super) fn segment(&self) -> &Segment<T> {
        &self.segment
    }

    /// Tells whether both use the same description, and so have the same locks.
    pub(super) fn is_open_with(&self, other: &Self) -> bool {
        self.description == other.description
    }

    /// Tells whether these values are mapped.
    pub(super) fn has(&self, values: &Range<usize>) -> bool {
        values.is_empty() || self.mapped.start <= values.start && values.end <= self.mapped.end
    }

    /// Returns the address of the value of that index, or an aligned dangling one if nothing is
    /// mapped.
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

    /// Locks the values if no other description has any of them locked, and tells whether it
    /// succeeded.
    pub(super) fn try_own(&self, values: &Range<usize>) -> io::Result<bool> {
        self.check_process()?;
        ranges::try_take(self.segment.as_fd(), self.segment.bytes(values))
    }

    /// Unlocks the values.
    pub(super) fn disown(&self, values: &Range<usize>) {
        if self.check_process().is_err() {
            return;
        }
        // This fails if the kernel has no memory to split a locked range. Then the values stay
        // locked until this is dropped.
        let _ = ranges::give_back(self.segment.as_fd(), self.segment.bytes(values));
    }

    /// Opens a new description for another process, which has none of the locks.
    pub(super) fn for_others(&self) -> io::Result<OwnedFd> {
        self.check_process()?;
        memfd::reopen(self.segment.as_fd())
    }

    /// Fails in a copy of the process that has the locks.
    fn check_process(&self) -> io::Result<()> {
        if self.forks == forks() {
            return Ok(());
        }
        Err(io::Error::other("the buffer belongs to the process that this one was forked from"))
    }

    /// Allocates the pages of these values.
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

    /// Unmaps the memory and returns the segment, with its locks.
    pub(super) fn into_segment(self) -> Segment<T> {
        self.segment
    }

    /// Unmaps the memory, on another thread if it is large. Another process may own the values by
    /// now.
    pub(super) fn unmap(&mut self) {
        if let Some(mapping) = self.mapping.take_if(|mapping| mapping.len() >= LARGE) {
            // If the thread cannot be started, this drops the closure, which unmaps the memory
            // here.
            let _ = thread::Builder::new().name("mp-shm unmap".to_owned()).spawn(move || pages::unmap_gently(mapping));
        }
    }
}
