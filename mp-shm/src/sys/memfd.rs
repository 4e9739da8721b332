//! Anonymous memory files of fixed size.
//!
//! Sealing is described in
//! [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html) and
//! [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "File Sealing".

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mp_core::raw::{above_standard_streams, file_size_limit};
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    fstatfs, ftruncate, memfd_create, open, seek,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::pages;

/// No process can make the file shorter or longer.
const SIZED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The type of memory files without huge pages in statfs(2). With huge pages, an access may find no
/// page and raise SIGBUS.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Up to this size, memory is made without checking how much is available, because the check costs
/// more.
const UNCHECKED: u64 = 16 << 20;

/// Up to this size, memory is always reserved.
const ALWAYS_RESERVED: u64 = 64 << 10;

/// How much is reserved by one system call. A signal makes the kernel undo the piece.
const PIECE: u64 = 16 << 20;

/// Makes a file of `size` zero bytes, and reserves memory for them if the system does not
/// overcommit.
///
/// # Errors
///
/// `OutOfMemory` if the machine or a limit of this process has less memory left; any error of the
/// operating system.
pub(crate) fn create(size: u64) -> io::Result<OwnedFd> {
    // Setting a size beyond RLIMIT_FSIZE would raise SIGXFSZ, which ends the process.
    if file_size_limit().is_some_and(|limit| size > limit) {
        return Err(Errno::FBIG.into());
    }
    if size > UNCHECKED && pages::most_available().is_some_and(|most| size > most) {
        let message = format!("{size} bytes are more than the machine or a limit of this process has left");
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 a caller should state that the file will not be executed. Older kernels do
    // not know the flag.
    let file = match memfd_create("mp-shm", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("mp-shm", flags)?,
        other => other?,
    };
    let file = above_standard_streams(file)?;
    ftruncate(&file, size)?;
    // Without overcommit, an access that finds no memory raises SIGBUS. Reserving a little memory
    // takes less time than asking for that setting.
    if size <= ALWAYS_RESERVED || pages::never_overcommits() {
        commit(file.as_fd(), 0..size)?;
    }
    Ok(file)
}

/// Makes sure that an access to received memory finds a page.
pub(crate) fn fill_holes(file: BorrowedFd<'_>, facts: &Facts) -> io::Result<()> {
    // If this library made the file, it reserved the memory where that is needed, and reserving it
    // again changes nothing.
    if pages::never_overcommits() && has_holes(file, facts.size)? { commit(file, 0..facts.size) } else { Ok(()) }
}

/// Tells whether some of the file's bytes have no pages. The number of its blocks does not tell,
/// because there may be blocks after its end.
fn has_holes(file: BorrowedFd<'_>, size: u64) -> io::Result<bool> {
    Ok(size > 0 && seek(file, SeekFrom::Hole(0))? < size)
}

/// Tells whether the file uses as much memory as it has bytes. What it lacks, reading it through a
/// mapping would add, in the name of the reader.
pub(crate) fn is_allocated(file: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = fstat(file)?;
    // The kernel counts blocks of 512 bytes.
    Ok(stat.st_blocks.saturating_mul(512) >= stat.st_size)
}

/// Reserves memory for these bytes.
pub(crate) fn commit(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    let mut start = bytes.start;
    while start < bytes.end {
        let length = PIECE.min(bytes.end - start);
        retry_on_intr(|| fallocate(file, FallocateFlags::empty(), start, length)).map_err(|error| match error {
            Errno::NOSPC | Errno::NOMEM => io::ErrorKind::OutOfMemory.into(),
            error => io::Error::from(error),
        })?;
        start += length;
    }
    Ok(())
}

/// Fixes the size of the file permanently, for every process.
pub(crate) fn fix_size(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SIZED)?)
}

/// Prevents every process from adding further seals.
pub(crate) fn fix_seals(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::SEAL)?)
}

/// Seals the file against writing by any process, even this one. Fails with `EBUSY` if a process
/// has it mapped for writing.
pub(crate) fn freeze(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::WRITE | SIZED | SealFlags::SEAL)?)
}

/// What is certain about a received file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The fixed size in bytes.
    pub(crate) size: u64,
    /// Whether it is sealed against writing.
    pub(crate) frozen: bool,
    /// Its device and inode.
    pub(crate) identity: (u64, u64),
}

/// Examines a received descriptor. Returns `None` if it is not memory of a fixed size.
pub(crate) fn examine(file: BorrowedFd<'_>) -> io::Result<Option<Facts>> {
    let seals = match fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SIZED) => seals,
        // Files that cannot be sealed return various errors.
        Ok(_) | Err(Errno::INVAL | Errno::BADF | Errno::NOSYS | Errno::NOTTY) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if fstatfs(file)?.f_type as u64 != TMPFS_MAGIC {
        return Ok(None);
    }
    // After the seals, because the size cannot change then.
    let stat = fstat(file)?;
    let size = u64::try_from(stat.st_size).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
    let frozen = seals.contains(SealFlags::WRITE);
    Ok(Some(Facts { size, frozen, identity: (stat.st_dev, stat.st_ino) }))
}

/// Returns the device and the inode of a file.
pub(crate) fn identity(file: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = retry_on_intr(|| pwrite(file, bytes, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Writes `length` bytes from `start` on to the file at `offset`.
///
/// # Safety
///
/// The bytes can be read. They need not be initialised: padding is written as it is.
pub(crate) unsafe fn copy_at(file: BorrowedFd<'_>, start: *const u8, length: usize, offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let position = libc::off_t::try_from(offset + done as u64).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
        // SAFETY: `done` is less than `length`, so the address is within the bytes that the caller
        // guarantees to be readable.
        let from = unsafe { start.add(done) };
        // SAFETY: the kernel reads at most as many bytes as there are from `from` on.
        let written = unsafe { libc::pwrite(file.as_raw_fd(), from.cast(), length - done, position) };
        match usize::try_from(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Fills `bytes` from `offset` on.
pub(crate) fn read_at(file: BorrowedFd<'_>, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = retry_on_intr(|| pread(file, &mut *bytes, offset))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Opens the file again. The new description has its own locks.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    // If another process has a lease on the file, as its sender may, `open` would wait for most of
    // a minute. With this flag it is an error. The flag has no effect on an open memory file.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    above_standard_streams(retry_on_intr(|| open(&path, flags, Mode::empty()))?)
}

/// Duplicates a descriptor. Both have the same description.
pub(crate) fn duplicate(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    above_standard_streams(file.try_clone_to_owned()?)
}
