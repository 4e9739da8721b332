//! Anonymous memory with a header that describes its content.
//!
//! The header is written once, before any other process has the memory. A process that attaches the
//! memory reads the header once, and compares it with what it expects and with the sealed size. It
//! never reads the header again, so a process that changes the header later cannot make another one
//! access bytes outside of the memory. The values begin at an offset that depends only on their
//! type.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::MmapRaw;
use mp_core::raw::SharedFd;

use crate::sys::{mapping, memfd, pages};
use crate::{AttachError, ShmSafe};

/// What the memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A lock and the values that it protects.
    Array = 2,
    /// Values that have one owner at a time or are frozen.
    Buffer = 3,
    /// One value, and possibly bytes after it.
    Region = 4,
}

/// The first bytes: "mp-shm" and the version of this format.
const MAGIC: u64 = u64::from_le_bytes(*b"mp-shm\0\x01");

/// The number of integers in the header.
const FIELDS: usize = 6;

/// The length of the header in bytes.
pub(crate) const HEADER: usize = FIELDS * size_of::<u64>();

/// Memory for values of type `T`. For a [`Kind::Region`], the length is the number of bytes after
/// the value.
pub(crate) struct Segment<T> {
    file: SharedFd,
    kind: Kind,
    length: usize,
    /// The file's device and inode, which all descriptors of one segment share.
    identity: (u64, u64),
    values: PhantomData<fn() -> T>,
}

impl<T: ShmSafe> Segment<T> {
    /// A condition that each constructor checks, because a mapping can begin at any page.
    const ALIGNED: () =
        assert!(align_of::<T>() <= 4096, "the alignment of the type is greater than a page, 4096 bytes");

    /// Makes zeroed memory for `length` values.
    pub(crate) fn create(kind: Kind, length: usize) -> io::Result<Self> {
        let () = Self::ALIGNED;
        let too_large =
            || io::Error::new(io::ErrorKind::OutOfMemory, "the values need more memory than the address space has");
        let size = Self::size(kind, length).ok_or_else(too_large)?;
        let file = memfd::create(size)?;
        let header: Vec<u8> = Self::header(kind, length).into_iter().flat_map(u64::to_le_bytes).collect();
        memfd::write_at(file.as_fd(), &header, 0)?;
        memfd::fix_size(file.as_fd())?;
        if kind != Kind::Buffer {
            // Otherwise a process that has it could prevent others from mapping it, by adding a
            // seal.
            memfd::fix_seals(file.as_fd())?;
        }
        let identity = memfd::identity(file.as_fd())?;
        Ok(Self { file: file.into(), kind, length, identity, values: PhantomData })
    }

    /// Attaches received memory if it is what is expected, and tells whether it is frozen.
    pub(crate) fn attach(file: OwnedFd, kind: Kind) -> Result<(Self, bool), AttachError> {
        let () = Self::ALIGNED;
        let facts = memfd::examine(file.as_fd())?.ok_or(AttachError::NotSealed)?;
        if facts.size < HEADER as u64 {
            return Err(AttachError::Size { found: facts.size, expected: HEADER as u64 });
        }
        let mut bytes = [0; HEADER];
        memfd::read_at(file.as_fd(), &mut bytes, 0)?;
        let mut header = [0; FIELDS];
        for (field, bytes) in header.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
            bytes.iter().rev().for_each(|byte| *field = *field << 8 | u64::from(*byte));
        }
        let announced = header[FIELDS - 1];
        let expected = usize::try_from(announced).ok().and_then(|length| Some((length, Self::size(kind, length)?)));
        if header[0] != MAGIC {
            return Err(AttachError::Format);
        }
        if header[..FIELDS - 1] != Self::header(kind, 0)[..FIELDS - 1] {
            return Err(AttachError::Type);
        }
        match expected {
            Some((length, size)) if size == facts.size => {
                memfd::fill_holes(file.as_fd(), &facts)?;
                let identity = facts.identity;
                Ok((Self { file: file.into(), kind, length, identity, values: PhantomData }, facts.frozen))
            }
            _ => {
                let expected = expected.map_or(u64::MAX, |(_, size)| size);
                Err(AttachError::Size { found: facts.size, expected })
            }
        }
    }

    fn header(kind: Kind, length: usize) -> [u64; FIELDS] {
        [MAGIC, kind as u64, T::LAYOUT.digest(), size_of::<T>() as u64, align_of::<T>() as u64, length as u64]
    }

    /// Returns the size of a segment in bytes, or `None` if it exceeds the address space.
    fn size(kind: Kind, length: usize) -> Option<u64> {
        let values = match kind {
            Kind::Region => size_of::<T>().checked_add(length)?,
            Kind::Array | Kind::Buffer => size_of::<T>().checked_mul(length)?,
        };
        let size = values.checked_add(start::<T>(kind))?;
        // The size has to be addressable even when it is rounded up to pages.
        (size <= isize::MAX as usize - pages::size()).then_some(size as u64)
    }
}

/// The room for the lock of an array, in bytes.
pub(crate) const LOCK: usize = 64;

/// The offset of the values in bytes.
pub(crate) fn start<T>(kind: Kind) -> usize {
    match kind {
        Kind::Region => HEADER.next_multiple_of(align_of::<T>()),
        // After the lock.
        Kind::Array => (HEADER + LOCK).next_multiple_of(align_of::<T>()),
        // On pages of their own, so that parts can be mapped without the header.
        Kind::Buffer => pages::size().next_multiple_of(align_of::<T>()),
    }
}

impl<T> Segment<T> {
    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The descriptor, which messages share.
    pub(crate) fn file(&self) -> &SharedFd {
        &self.file
    }

    /// Tells whether both are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // Before Linux 5.9 inode numbers start over after 2³², which an attacker could wait for. So
        // the lengths have to be equal too: then a range in one memory is never outside of the
        // other.
        self.identity == other.identity && self.length == other.length
    }

    /// Returns the byte range of some of the values in the file. They have to be within the
    /// segment.
    pub(crate) fn bytes(&self, values: &Range<usize>) -> Range<u64> {
        let start = start::<T>(self.kind);
        let position = |index: usize| (start + index * size_of::<T>()) as u64;
        position(values.start)..position(values.end)
    }

    /// Maps all of the segment, with its header.
    pub(crate) fn everything(&self) -> Range<u64> {
        match self.kind {
            Kind::Region => 0..(start::<T>(self.kind) + size_of::<T>() + self.length) as u64,
            Kind::Array | Kind::Buffer => 0..self.bytes(&(0..self.length)).end,
        }
    }

    /// Maps some of the values for writing, or returns `None` if they have no bytes.
    pub(crate) fn map(&self, values: &Range<usize>) -> io::Result<Option<MmapRaw>> {
        let bytes = self.bytes(values);
        if bytes.is_empty() { Ok(None) } else { mapping::writable(self.as_fd(), bytes).map(Some) }
    }

    /// Maps some of the values for reading, or returns `None` if they have no bytes.
    pub(crate) fn map_to_read(&self, values: &Range<usize>) -> io::Result<Option<MmapRaw>> {
        let bytes = self.bytes(values);
        if bytes.is_empty() { Ok(None) } else { mapping::readable(self.as_fd(), bytes).map(Some) }
    }

    /// Returns the same segment with another descriptor.
    pub(crate) fn with_file(&self, file: OwnedFd) -> Self {
        Self { file: file.into(), kind: self.kind, length: self.length, identity: self.identity, values: PhantomData }
    }
}

impl<T> AsFd for Segment<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_of_the_same_number_makes_no_longer_memory_the_same() {
        let short = Segment::<u8>::create(Kind::Buffer, 1).unwrap();
        let again = short.with_file(short.as_fd().try_clone_to_owned().unwrap());
        assert!(short.is_same(&again));
        let mut long = Segment::<u8>::create(Kind::Buffer, 2).unwrap();
        long.identity = short.identity;
        assert!(!short.is_same(&long));
    }
}
