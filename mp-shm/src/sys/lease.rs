//! File leases, which tell whether another process has a file open: fcntl(2), "Leases".
//!
//! The kernel grants a lease for writing only while no other process has the file open or mapped,
//! by any name. While it is held, a process that opens the file waits in `open`. Only the owner of
//! a regular file can take one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Sets the signal by which a descriptor reports events. libc does not define it.
const F_SETSIG: i32 = 10;

/// A lease for writing, held until it is dropped.
pub(crate) struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// Takes a lease. Fails if another process has the file open, or if the system has no leases.
    pub(crate) fn take(file: &'a File) -> io::Result<Self> {
        // If another process opens the file, the kernel sends this process a signal. The default,
        // SIGIO, would end the process. SIGURG is ignored, unless the program has a handler for it,
        // which then runs without need. SAFETY: the command takes a number, and the descriptor is
        // open.
        if unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(file))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // A child that was forked meanwhile shares the lease, so closing the descriptor would not
        // end it. SAFETY: the command takes a number, and the descriptor is open.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn it_is_granted_to_the_only_one_who_has_the_file() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("file");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let file = open();
        drop(Lease::take(&file).unwrap());

        let other = open();
        assert!(Lease::take(&file).is_err());
        other.set_len(1).unwrap();
        let mapping = memmap2::MmapRaw::map_raw(&other).unwrap();
        drop(other);
        assert!(Lease::take(&file).is_err(), "it is mapped");
        drop(mapping);
        drop(Lease::take(&file).unwrap());
    }
}
