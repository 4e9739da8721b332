//! Large messages: anonymous memory files that are written once, sealed, and read.
//!
//! A sealed file cannot change or shrink any more, whoever holds it, so nobody can change what its receiver has checked.
//! Sealing is described in memfd_create(2) and fcntl(2), "File Sealing".

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::bytes::Room;
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

/// Reads the first bytes of a sealed file, wherever its own position is.
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
    /// `InvalidData` if `file` is not a sealed memory file of at least `length` bytes.
    pub(crate) fn new(file: BorrowedFd<'a>, length: u64) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        match fcntl_get_seals(file) {
            Ok(seals) if seals.contains(SEALED) => {}
            Ok(_) => return Err(refused("a large message is not sealed")),
            Err(_) => return Err(refused("a large message is not in a memory file")),
        }
        let stat = fstat(file)?;
        if u64::try_from(stat.st_size).is_ok_and(|size| size < length) {
            return Err(refused("a large message is shorter than announced"));
        }
        // A hole costs its sender nothing, and its receiver memory: a message has to bring its own. The kernel counts blocks of
        // 512 bytes.
        if u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) < length) {
            return Err(refused("a large message has holes"));
        }
        Ok(Self { file, position: 0, length })
    }

    /// How many bytes are still to be read.
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
            // SAFETY: rustix returns the part of the rest that the kernel has filled, which is its beginning.
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
            // It was measured, and cannot shrink.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::bytes;

    fn read(file: &OwnedFd, length: u64) -> io::Result<Vec<u8>> {
        let mut reader = Reader::new(file.as_fd(), length)?;
        let mut bytes = vec![0; usize::try_from(length.min(100)).unwrap()];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn a_sealed_file_reads_back() {
        let file = create().unwrap();
        append(file.as_fd(), b"hello ", 6).unwrap();
        append(file.as_fd(), b"world", 11).unwrap();
        seal(file.as_fd()).unwrap();
        assert_eq!(read(&file, 11).unwrap(), b"hello world");
        assert_eq!(read(&file, 0).unwrap(), b"");
        let mut reader = Reader::new(file.as_fd(), 11).unwrap();
        let mut some = b"I say ".to_vec();
        some.reserve(5);
        bytes::append(&mut some, 5, |room| reader.fill(room)).unwrap();
        assert_eq!((&some[..], reader.left()), (&b"I say hello"[..], 6));
        let mut rest = [0; 6];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b" world");
        assert!(reader.read_exact(&mut [0]).is_err());
        some.reserve(1);
        assert!(bytes::append(&mut some, 1, |room| reader.fill(room)).is_err());
        assert!(append(file.as_fd(), b"!", 12).is_err());
    }

    #[test]
    fn files_that_could_change_or_end_early_are_refused() {
        let unsealed = create().unwrap();
        append(unsealed.as_fd(), b"hello", 5).unwrap();
        assert!(read(&unsealed, 5).is_err());

        let short = create().unwrap();
        append(short.as_fd(), b"hello", 5).unwrap();
        seal(short.as_fd()).unwrap();
        assert!(read(&short, 6).is_err());
        assert!(read(&short, u64::MAX).is_err());

        let hollow = create().unwrap();
        rustix::fs::ftruncate(&hollow, 1 << 40).unwrap();
        seal(hollow.as_fd()).unwrap();
        assert!(read(&hollow, 1 << 40).is_err());

        let foreign: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
        assert!(read(&foreign, 5).is_err());
    }
}
