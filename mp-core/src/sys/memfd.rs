//! Memory files, which hold the body of a message that does not fit in a packet.
//!
//! A memory file has no name, and the kernel frees it when its last descriptor is closed
//! ([memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)). The sender
//! writes the file and the receiver copies it. The sender may then write its next message into the
//! same pages. That saves allocating and zeroing pages, which takes most of the time.
//!
//! 1. The receiver reads by pread(2), into its own memory. So the sender may do anything to the
//!    file meanwhile: the bytes that were read do not change, and a file that ends early is an
//!    error. The file needs no seal against writing, which the kernel sometimes refuses.
//! 2. The receiver gets a read-only descriptor. So a process in a sandbox that cannot open files
//!    cannot change a later message to another receiver.
//! 3. The sender writes to existing pages through a mapping. If the file could become shorter, that
//!    could raise SIGBUS. So the file is sealed against shrinking when it is made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, open};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::bytes::Room;
use super::fd::{above_standard_streams, path_of};
use super::limits::file_size_limit;

/// A memory file that this process writes, one message after another.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    file: OwnedFd,
    /// The same file, opened for reading.
    reader: OwnedFd,
    /// The length of the message in the file.
    length: u64,
    /// How many bytes, from the beginning of the file, have pages.
    allocated: u64,
    mapping: Option<Mapping>,
}

impl MemoryFile {
    /// Makes an empty file.
    pub(crate) fn create() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Since Linux 6.3 a caller should state that the file will not be executed. Older kernels
        // do not know the flag.
        let file = match memfd_create("mp-message", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create("mp-message", flags)?,
            other => other?,
        };
        let file = above_standard_streams(file)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        let reader = open(path_of(file.as_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let reader = above_standard_streams(reader)?;
        Ok(Self { file, reader, length: 0, allocated: 0, mapping: None })
    }

    /// Removes the message and keeps the pages.
    pub(crate) fn clear(&mut self) {
        self.length = 0;
        // The file is mapped only when it is used again, so a file that is used once costs no
        // mapping.
        if self.mapping.as_ref().is_none_or(|mapping| (mapping.length as u64) < self.allocated) {
            self.mapping = Mapping::new(self.file.as_fd(), self.allocated);
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes of memory the file uses.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The read-only descriptor for a receiver.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Returns the read-only descriptor and the length of the message, and closes the other
    /// descriptor.
    pub(crate) fn into_reader(self) -> (OwnedFd, u64) {
        (self.reader, self.length)
    }

    /// Appends to the message.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = match &mut self.mapping {
            Some(mapping) => {
                let copied = mapping.write(self.length, bytes);
                self.length += copied as u64;
                &bytes[copied..]
            }
            None => bytes,
        };
        self.append_by_call(bytes)
    }

    fn append_by_call(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // A write beyond RLIMIT_FSIZE would raise SIGXFSZ, which ends the process.
        let end = self.length + bytes.len() as u64;
        if !bytes.is_empty() && file_size_limit().is_some_and(|limit| end > limit) {
            return Err(Errno::FBIG.into());
        }
        while !bytes.is_empty() {
            let written = retry_on_intr(|| pwrite(&self.file, bytes, self.length))?;
            self.length += written as u64;
            self.allocated = self.allocated.max(self.length);
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

/// The pages of a memory file, mapped for writing.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: this value alone owns the mapping, and any thread may write to it and unmap it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Returns `None` if the file is empty or there is no address space.
    fn new(file: BorrowedFd<'_>, length: u64) -> Option<Self> {
        let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses an address where nothing is mapped, so no existing memory
        // changes.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, flags, file, 0) }.ok()?;
        Some(Self { start: NonNull::new(start.cast())?, length })
    }

    /// Copies as many of `bytes` to `offset` as fit, and returns how many those are.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> usize {
        let Some(room) = usize::try_from(offset).ok().and_then(|offset| self.length.checked_sub(offset)) else {
            return 0;
        };
        let count = room.min(bytes.len());
        // SAFETY: `offset` is at most `self.length`, so the result is in the mapping or at its end.
        let place = unsafe { self.start.as_ptr().add(self.length - room) };
        // SAFETY: the `count` bytes from `place` on are in the mapping. No reference in this
        // process points into it, so they do not overlap `bytes`. The file backs them and cannot
        // shrink (invariant 3). Another process may read or write them meanwhile; this process
        // never reads them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, count) };
        count
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping, and no pointer into it remains.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Reads the first bytes of a memory file. It does not use the position of the file itself.
pub(crate) struct Reader<'a> {
    file: BorrowedFd<'a>,
    position: u64,
    length: u64,
}

impl<'a> Reader<'a> {
    /// Reads the first `length` bytes of `file`.
    ///
    /// # Errors
    ///
    /// `InvalidData` if `file` is not a memory file that has at least `length` bytes in pages.
    pub(crate) fn new(file: BorrowedFd<'a>, length: u64) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        // Only memory files have seals. Reading a file of another kind could block.
        if fcntl_get_seals(file).is_err() {
            return Err(refused("it is not in a memory file"));
        }
        let stat = fstat(file)?;
        if u64::try_from(stat.st_size).is_ok_and(|size| size < length) {
            return Err(refused("it is shorter than it announces"));
        }
        // A hole costs the sender no memory but the receiver as much as it is long. So a message
        // with holes is refused. The kernel counts blocks of 512 bytes.
        if u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) < length) {
            return Err(refused("its memory file has holes"));
        }
        Ok(Self { file, position: 0, length })
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes are left to read.
    pub(crate) fn left(&self) -> u64 {
        self.length - self.position
    }

    /// Fills `into`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if fewer bytes are left.
    pub(crate) fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            let most = self.most(into.len() - filled);
            let read = retry_on_intr(|| pread(self.file, &mut into[filled..filled + most], self.position))?;
            filled += self.advance(read)?;
        }
        Ok(())
    }

    /// Fills `room`.
    ///
    /// # Errors
    ///
    /// As [`read_exact`](Self::read_exact).
    pub(crate) fn fill(&mut self, room: &mut Room<'_>) -> io::Result<()> {
        while !room.rest().is_empty() {
            let most = self.most(room.rest().len());
            let read = retry_on_intr(|| {
                let (filled, _) = pread(self.file, &mut room.rest()[..most], self.position)?;
                Ok(filled.len())
            })?;
            // SAFETY: the kernel filled this many bytes at the beginning of the rest.
            unsafe { room.assume(read) };
            self.advance(read)?;
        }
        Ok(())
    }

    /// How many of `wanted` bytes are left.
    fn most(&self, wanted: usize) -> usize {
        usize::try_from(self.left()).map_or(wanted, |left| left.min(wanted))
    }

    fn advance(&mut self, read: usize) -> io::Result<usize> {
        if read == 0 {
            // The sender is not this library and has shortened the file.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::ftruncate;

    use super::*;

    fn read(file: BorrowedFd<'_>, length: u64) -> io::Result<Vec<u8>> {
        let mut reader = Reader::new(file, length)?;
        let mut bytes = vec![0; length as usize];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn messages_in_one_file_read_back_one_after_another() {
        let mut file = MemoryFile::create().unwrap();
        for length in [11, 5, 100_000, 99_999, 300_000, 0, 3] {
            let message: Vec<u8> = (0..length).map(|place| (place * 7 + length) as u8).collect();
            let (first, second) = message.split_at(length / 3);
            file.append(first).unwrap();
            file.append(second).unwrap();
            assert_eq!(file.length(), length as u64);
            assert_eq!(read(file.reader(), length as u64).unwrap(), message);
            file.clear();
        }
        assert_eq!(file.allocated(), 300_000);
    }

    #[test]
    fn a_receiver_can_neither_write_nor_shorten_the_file() {
        let mut file = MemoryFile::create().unwrap();
        file.append(b"hello").unwrap();
        assert!(pwrite(file.reader(), b"j", 0).is_err());
        assert!(ftruncate(file.reader(), 0).is_err());
        assert!(ftruncate(&file.file, 0).is_err());
        // SAFETY: the kernel chooses the address.
        let mapped = unsafe {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            mmap(std::ptr::null_mut(), 5, protection, flags, file.reader(), 0)
        };
        assert!(mapped.is_err());
        assert_eq!(read(file.reader(), 5).unwrap(), b"hello");
    }

    #[test]
    fn files_that_end_early_and_other_kinds_are_refused() {
        let mut short = MemoryFile::create().unwrap();
        short.append(b"hello").unwrap();
        assert!(read(short.reader(), 6).is_err());
        assert!(read(short.reader(), u64::MAX).is_err());

        let hollow = memfd_create("hollow", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&hollow, 1 << 40).unwrap();
        assert!(read(hollow.as_fd(), 1 << 40).is_err());

        let cut = memfd_create("cut", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&cut, b"hello").unwrap();
        let mut reader = Reader::new(cut.as_fd(), 5).unwrap();
        ftruncate(&cut, 2).unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        assert!(reader.read_exact(&mut [0]).is_err());

        let foreign: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
        assert!(read(foreign.as_fd(), 5).is_err());
    }
}
