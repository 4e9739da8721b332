//! Anonymous memory with a header that says what is in it.
//!
//! The header is written once, before anybody else has the memory, and read once, by whoever
//! attaches it: checked against what the receiver expects and against the size, which is sealed.
//! What is in it later does not matter: nobody looks again, so no process can make another one use
//! what lies outside. The values begin at an offset that depends on their type alone.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::MmapRaw;

use crate::sys::{mapping, memfd, pages};
use crate::{AttachError, ShmSafe};

/// What the memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A lock, and values that it protects.
    Array = 2,
    /// Values that have one owner at a time, or are frozen.
    Buffer = 3,
    /// One value, and bytes behind it, if any.
    Region = 4,
}

/// The first bytes: "mp-shm", and the version of this format.
const MAGIC: u64 = u64::from_le_bytes(*b"mp-shm\0\x01");

/// How many numbers the header consists of.
const FIELDS: usize = 6;

/// How many bytes the header has.
pub(crate) const HEADER: usize = FIELDS * size_of::<u64>();

/// Memory for values of type `T`. Of a [`Kind::Region`], the length is that of the bytes.
pub(crate) struct Segment<T> {
    file: OwnedFd,
    kind: Kind,
    length: usize,
    /// The file's device and inode: the same for all descriptors of one segment.
    identity: (u64, u64),
    values: PhantomData<fn() -> T>,
}

impl<T: ShmSafe> Segment<T> {
    /// What every way to have a segment demands: a mapping begins at any page, whatever it is a
    /// mapping of.
    const ALIGNED: () = assert!(align_of::<T>() <= 4096, "memory is aligned to pages, and this type to more than that");

    /// Makes memory of zeros for `length` values.
    pub(crate) fn create(kind: Kind, length: usize) -> io::Result<Self> {
        let () = Self::ALIGNED;
        let too_large =
            || io::Error::new(io::ErrorKind::OutOfMemory, "the values need more memory than can be addressed");
        let size = Self::size(kind, length).ok_or_else(too_large)?;
        let file = memfd::create(size)?;
        let header: Vec<u8> = Self::header(kind, length).into_iter().flat_map(u64::to_le_bytes).collect();
        memfd::write_at(file.as_fd(), &header, 0)?;
        memfd::fix_size(file.as_fd())?;
        if kind != Kind::Buffer {
            // Otherwise one of those who share it could keep the next ones from mapping it.
            memfd::fix_seals(file.as_fd())?;
        }
        let identity = memfd::identity(file.as_fd())?;
        Ok(Self { file, kind, length, identity, values: PhantomData })
    }

    /// Takes memory from elsewhere, if it is what is expected, and tells whether it is frozen.
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
                Ok((Self { file, kind, length, identity: facts.identity, values: PhantomData }, facts.frozen))
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

    /// How many bytes a segment has. `None` if they would be more than a process can have.
    fn size(kind: Kind, length: usize) -> Option<u64> {
        let values = match kind {
            Kind::Region => size_of::<T>().checked_add(length)?,
            Kind::Array | Kind::Buffer => size_of::<T>().checked_mul(length)?,
        };
        let size = values.checked_add(start::<T>(kind))?;
        // Rounded up to pages, it has to be addressable still.
        (size <= isize::MAX as usize - pages::size()).then_some(size as u64)
    }
}

/// What the lock of an array has room for, in bytes.
pub(crate) const LOCK: usize = 64;

/// Where the values begin, in bytes.
pub(crate) fn start<T>(kind: Kind) -> usize {
    match kind {
        Kind::Region => HEADER.next_multiple_of(align_of::<T>()),
        // After the lock.
        Kind::Array => (HEADER + LOCK).next_multiple_of(align_of::<T>()),
        // Pages of their own, so that parts can be mapped without the header.
        Kind::Buffer => pages::size().next_multiple_of(align_of::<T>()),
    }
}

impl<T> Segment<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether the two are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // Before Linux 5.9 the numbers of inodes begin anew after 2³², which somebody could wait
        // for. So two memories of another length are never taken for one: what is inside the one
        // would be outside the other.
        self.identity == other.identity && self.length == other.length
    }

    /// Where some of the values are in the file, in bytes. They have to be some of those that there
    /// are.
    pub(crate) fn bytes(&self, values: &Range<usize>) -> Range<u64> {
        let start = start::<T>(self.kind);
        let position = |index: usize| (start + index * size_of::<T>()) as u64;
        position(values.start)..position(values.end)
    }

    /// All of it, header included.
    pub(crate) fn everything(&self) -> Range<u64> {
        match self.kind {
            Kind::Region => 0..(start::<T>(self.kind) + size_of::<T>() + self.length) as u64,
            Kind::Array | Kind::Buffer => 0..self.bytes(&(0..self.length)).end,
        }
    }

    /// Maps some of the values to be written, if there is a byte of them.
    pub(crate) fn map(&self, values: &Range<usize>) -> io::Result<Option<MmapRaw>> {
        let bytes = self.bytes(values);
        if bytes.is_empty() { Ok(None) } else { mapping::writable(self.as_fd(), bytes).map(Some) }
    }

    /// Maps some of the values to be read, if there is a byte of them.
    pub(crate) fn map_to_read(&self, values: &Range<usize>) -> io::Result<Option<MmapRaw>> {
        let bytes = self.bytes(values);
        if bytes.is_empty() { Ok(None) } else { mapping::readable(self.as_fd(), bytes).map(Some) }
    }

    /// The same memory, by another descriptor of it.
    pub(crate) fn with_file(&self, file: OwnedFd) -> Self {
        Self { file, kind: self.kind, length: self.length, identity: self.identity, values: PhantomData }
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
        let again = short.with_file(short.file.try_clone().unwrap());
        assert!(short.is_same(&again));
        let mut long = Segment::<u8>::create(Kind::Buffer, 2).unwrap();
        long.identity = short.identity;
        assert!(!short.is_same(&long));
    }
}
