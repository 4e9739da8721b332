//! Anonymous memory as a file, of a size that nobody can change.
//!
//! Sealing is described in
//! [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html) and
//! [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "File Sealing".

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    fstatfs, ftruncate, memfd_create, open, seek,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec, pread, pwrite, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::pages;

/// Nobody can make the file shorter or longer.
const SIZED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The lowest number that is not one of stdin, stdout and stderr.
const FIRST_ORDINARY: i32 = 3;

/// See statfs(2): memory files that are not of huge pages, whose faults may find no page and end in
/// SIGBUS.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How much may be made without looking whether it is there: looking costs more than making it.
const UNASKED: u64 = 16 << 20;

/// How much is set aside in any case.
const LITTLE: u64 = 64 << 10;

/// How much is set aside at a time: a signal makes the system begin the piece anew.
const PIECE: u64 = 16 << 20;

/// Makes a file of `size` zero bytes that are there when they are touched, as far as any memory is.
///
/// # Errors
///
/// `OutOfMemory` for more than this machine or the limits of this process have; whatever the system
/// says.
pub(crate) fn create(size: u64) -> io::Result<OwnedFd> {
    // Setting a size beyond RLIMIT_FSIZE raises SIGXFSZ, which would end the process instead of
    // failing the call.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| size > limit) {
        return Err(Errno::FBIG.into());
    }
    if size > UNASKED && pages::most_available().is_some_and(|most| size > most) {
        let message = format!("{size} bytes are more than this machine or a limit of this process leaves");
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels since 6.3 want to know that the file will not be executed; older ones do not know the
    // flag.
    let file = match memfd_create("mp-shm", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("mp-shm", flags)?,
        other => other?,
    };
    let file = above_standard_streams(file)?;
    ftruncate(&file, size)?;
    // Where memory is counted when it is touched, a touch that finds none is a SIGBUS. A little is
    // had sooner than that is asked.
    if size <= LITTLE || pages::are_counted() {
        commit(file.as_fd(), 0..size)?;
    }
    Ok(file)
}

/// Makes sure that touching memory from elsewhere finds memory.
pub(crate) fn fill_holes(file: BorrowedFd<'_>, facts: &Facts) -> io::Result<()> {
    // Whoever made it by this library has set its memory aside, where that is needed, and doing it
    // again changes nothing.
    if pages::are_counted() && has_holes(file, facts.size)? { commit(file, 0..facts.size) } else { Ok(()) }
}

/// Whether some of these bytes have not been written or touched yet. How many blocks the file has
/// does not tell: there may be some beyond its end.
fn has_holes(file: BorrowedFd<'_>, size: u64) -> io::Result<bool> {
    Ok(size > 0 && seek(file, SeekFrom::Hole(0))? < size)
}

/// Has the system set memory aside for these bytes.
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

/// Fixes the size of the file, for every process and for ever.
pub(crate) fn fix_size(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SIZED)?)
}

/// Lets nobody add a seal any more.
pub(crate) fn fix_seals(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::SEAL)?)
}

/// Seals the file against every writer, this process included. Whoever has it mapped to write makes
/// this fail with `EBUSY`.
pub(crate) fn freeze(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::WRITE | SIZED | SealFlags::SEAL)?)
}

/// What can be relied on in a file that came from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// In bytes, for ever.
    pub(crate) size: u64,
    /// Nobody writes it any more.
    pub(crate) frozen: bool,
    /// Its device and inode.
    pub(crate) identity: (u64, u64),
}

/// Looks at a descriptor from elsewhere. `None`: it is no memory of a fixed size.
pub(crate) fn examine(file: BorrowedFd<'_>) -> io::Result<Option<Facts>> {
    let seals = match fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SIZED) => seals,
        // Files that cannot be sealed say so in various ways.
        Ok(_) | Err(Errno::INVAL | Errno::BADF | Errno::NOSYS | Errno::NOTTY) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if fstatfs(file)?.f_type as u64 != TMPFS_MAGIC {
        return Ok(None);
    }
    // After the seals: it cannot change any more.
    let stat = fstat(file)?;
    let size = u64::try_from(stat.st_size).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
    let frozen = seals.contains(SealFlags::WRITE);
    Ok(Some(Facts { size, frozen, identity: (stat.st_dev, stat.st_ino) }))
}

/// The device and the inode of a file.
pub(crate) fn identity(file: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Writes `bytes` at `offset`, all of them.
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

/// Writes `length` bytes from `start` on into the file at `offset`.
///
/// # Safety
///
/// They can be read. They need not be initialised: padding is passed on as it is.
pub(crate) unsafe fn copy_at(file: BorrowedFd<'_>, start: *const u8, length: usize, offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let position = libc::off_t::try_from(offset + done as u64).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
        // SAFETY: `done` is less than `length`, so it is inside what the caller says can be read.
        let from = unsafe { start.add(done) };
        // SAFETY: the kernel reads at most as many bytes as there are after `from`.
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

/// Opens the file once more: a description of its own, with locks of its own.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Whoever has a lease of the file, as its sender may, would make this wait for most of a
    // minute; so it is an error. To memory that is open the flag means nothing.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    above_standard_streams(retry_on_intr(|| open(&path, flags, Mode::empty()))?)
}

/// Another descriptor of the same description.
pub(crate) fn duplicate(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(file, FIRST_ORDINARY)?)
}

fn above_standard_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() >= FIRST_ORDINARY { Ok(file) } else { duplicate(file.as_fd()) }
}
