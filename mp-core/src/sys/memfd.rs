//! Large messages: anonymous memory files that are written once, sealed, and read in place.
//!
//! A sealed file cannot change or shrink any more, whoever holds it, so its receiver may look at it as a
//! plain slice of bytes: nobody can change what was checked, and no access can raise SIGBUS.
//! Sealing is described in memfd_create(2) and fcntl(2), "File Sealing".

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::fd::above_standard_streams;

/// What a receiver insists on.
const SEALED: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// Makes an empty anonymous file.
pub(crate) fn create() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels since 6.3 want to know that the file will not be executed; older ones do not know the flag.
    let file = match memfd_create("mp-message", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("mp-message", flags)?,
        other => other?,
    };
    above_standard_streams(file)
}

/// Appends `bytes`, which brings the file to `length` bytes.
pub(crate) fn append(file: BorrowedFd<'_>, mut bytes: &[u8], length: u64) -> io::Result<()> {
    // A write beyond RLIMIT_FSIZE raises SIGXFSZ, which would end the process instead of failing the call.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| length > limit) {
        return Err(Errno::FBIG.into());
    }
    while !bytes.is_empty() {
        let written = retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Seals the file against every change, for every process.
pub(crate) fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SEALED | SealFlags::SEAL)?)
}

/// The first bytes of a sealed file, mapped.
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`.
    ///
    /// # Errors
    ///
    /// `InvalidData` if `file` is not a sealed memory file of at least `length` bytes.
    pub(crate) fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        match fcntl_get_seals(file) {
            Ok(seals) if seals.contains(SEALED) => {}
            Ok(_) => return Err(refused("a large message is not sealed")),
            Err(_) => return Err(refused("a large message is not in a memory file")),
        }
        let stat = fstat(file)?;
        if u64::try_from(stat.st_size).is_ok_and(|size| size < length as u64) {
            return Err(refused("a large message is shorter than announced"));
        }
        // Looking at a hole would allocate it: a message has to bring its memory along. The kernel counts blocks of 512 bytes.
        if u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) < length as u64) {
            return Err(refused("a large message has holes"));
        }
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
        let start =
            unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::POPULATE, file, 0)? };
        let start = NonNull::new(start).ok_or_else(|| refused("a large message was mapped at address zero"))?;
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` mapped `length` readable bytes at `start` (or `length` is 0 and `start` is dangling but aligned), and
        // they stay mapped until `drop`. They are initialised, being a file's. No process can change them during the
        // borrow: F_SEAL_WRITE excludes writes and writable mappings, F_SEAL_SHRINK keeps every page backed, and seals cannot be
        // taken off again.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: `start` and `length` are the mapping that `new` made, and the borrows that `bytes` handed out have ended.
            // Unmapping can only fail for a range that is not one.
            let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
        }
    }
}

/// Maps the first `length` bytes of a file that stays open elsewhere.
pub(crate) fn map(file: &OwnedFd, length: u64) -> io::Result<Mapping> {
    let length = usize::try_from(length).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
    Mapping::new(file.as_fd(), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_reads_back() {
        let file = create().unwrap();
        append(file.as_fd(), b"hello ", 6).unwrap();
        append(file.as_fd(), b"world", 11).unwrap();
        seal(file.as_fd()).unwrap();
        assert_eq!(map(&file, 11).unwrap().bytes(), b"hello world");
        assert_eq!(map(&file, 0).unwrap().bytes(), b"");
        assert!(append(file.as_fd(), b"!", 12).is_err());
    }

    #[test]
    fn files_that_could_change_or_end_early_are_refused() {
        let unsealed = create().unwrap();
        append(unsealed.as_fd(), b"hello", 5).unwrap();
        assert!(map(&unsealed, 5).is_err());

        let short = create().unwrap();
        append(short.as_fd(), b"hello", 5).unwrap();
        seal(short.as_fd()).unwrap();
        assert!(map(&short, 6).is_err());
        assert!(map(&short, u64::MAX).is_err());

        let hollow = create().unwrap();
        rustix::fs::ftruncate(&hollow, 1 << 40).unwrap();
        seal(hollow.as_fd()).unwrap();
        assert!(map(&hollow, 1 << 40).is_err());

        let foreign: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
        assert!(map(&foreign, 5).is_err());
    }
}
