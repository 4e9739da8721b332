//! Leases, which tell whether anybody else has a file open: fcntl(2), "Leases".
//!
//! The kernel grants a lease for writing only while nobody else has the file open or mapped,
//! whoever that is and by whatever name; and as long as it is held, whoever opens the file waits in
//! `open`. It is for the owner of a file and regular files only.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Which signal is for what a descriptor has to tell; libc does not name it.
const F_SETSIG: i32 = 10;

/// A lease for writing, held until it is dropped.
pub(crate) struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// Takes it, or fails if anybody else has the file open, or if leases are not to be had here.
    pub(crate) fn take(file: &'a File) -> io::Result<Self> {
        // Whoever opens the file meanwhile makes the kernel signal us. SIGIO, which it would be,
        // ends a process; SIGURG is ignored unless the program has a handler for it, which has to
        // bear with being called for nothing.
        // SAFETY: the command takes a number, and the descriptor is open, as a file is.
        if unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the same.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(file))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // A child that was forked meanwhile holds the same lease, so closing the descriptor is not
        // enough.
        // SAFETY: the command takes a number, and the descriptor is open.
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
