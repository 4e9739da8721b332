//! Files in `/dev/shm`, where the C library's `shm_open` makes them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;

use memmap2::{MmapOptions, MmapRaw};
use mp_core::raw::file_size_limit;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat, fallocate, fcntl_getfl, fstat, fstatfs, linkat, open,
    statat, unlink,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec, pread, pwrite, retry_on_intr};
use rustix::process::geteuid;

const DIRECTORY: &str = "/dev/shm";

/// How much is allocated by one system call. A signal that interrupts it undoes at most this much.
const STEP: u64 = 64 << 20;

/// The type of the file system of memory files.
const TMPFS: i64 = 0x0102_1994;

/// Identifies a file independently of its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The facts about a file.
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) is_regular: bool,
    /// In bytes.
    pub(crate) size: u64,
    /// The number of its names.
    pub(crate) names: u64,
    /// Whether it belongs to this process's user.
    pub(crate) is_own: bool,
}

impl Facts {
    fn of(stat: &Stat) -> Self {
        Self {
            identity: Identity::of(stat),
            is_regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            #[allow(clippy::unnecessary_cast, reason = "its width differs between processors")]
            names: stat.st_nlink as u64,
            is_own: stat.st_uid == geteuid().as_raw(),
        }
    }
}

/// The path of a name in the directory. `name` contains neither a slash nor a NUL.
fn path(name: &[u8]) -> Vec<u8> {
    [DIRECTORY.as_bytes(), b"/", name].concat()
}

/// Makes an empty file that only this process's user may open. Fails if the name exists.
pub(crate) fn create(name: &[u8]) -> io::Result<File> {
    open_with(name, OFlags::CREATE | OFlags::EXCL)
}

/// Opens a file for reading and writing. Fails if it is a symbolic link.
pub(crate) fn open_existing(name: &[u8]) -> io::Result<File> {
    open_with(name, OFlags::empty())
}

/// Does the same, and fails as well if another process has a lease on the file.
pub(crate) fn open_without_waiting(name: &[u8]) -> io::Result<File> {
    open_with(name, OFlags::NONBLOCK)
}

fn open_with(name: &[u8], more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | more;
    let file = retry_on_intr(|| open(path(name), flags, Mode::RUSR | Mode::WUSR))?;
    // The numbers 0, 1 and 2 are for the standard streams, even if these are closed.
    Ok(File::from(if file.as_raw_fd() > 2 { file } else { fcntl_dupfd_cloexec(file, 3)? }))
}

/// Returns the facts about an open file.
pub(crate) fn facts(file: &File) -> io::Result<Facts> {
    Ok(Facts::of(&fstat(file)?))
}

/// Returns the facts about the file of a name, if there is one. Symbolic links are not followed.
pub(crate) fn facts_at(name: &[u8]) -> io::Result<Option<Facts>> {
    match statat(CWD, path(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Facts::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether a received descriptor is memory that can be read and written.
pub(crate) fn is_writable_memory(file: &File) -> io::Result<bool> {
    #[allow(clippy::useless_conversion, reason = "its width differs between processors")]
    let is_memory = i64::from(fstatfs(file)?.f_type) == TMPFS;
    let is_writable = fcntl_getfl(file)? & OFlags::RWMODE == OFlags::RDWR;
    Ok(is_memory && is_writable && facts(file)?.is_regular)
}

/// Makes an empty file `size` bytes long, and allocates memory for all of them.
pub(crate) fn allocate(file: &File, size: u64) -> io::Result<()> {
    within_file_limit(size)?;
    let mut done = 0;
    while done < size {
        let step = STEP.min(size - done);
        if step < size - done && done == 0 {
            // Checks first whether there is room for all, because a failure halfway would take
            // long.
            let free = fstatfs(file)?;
            #[allow(clippy::unnecessary_cast, reason = "its type differs between processors")]
            let block = free.f_bsize as u64;
            // A file system without a limit reports no blocks.
            if free.f_blocks > 0 && free.f_bavail.saturating_mul(block) < size {
                return Err(Errno::NOSPC.into());
            }
        }
        retry_on_intr(|| fallocate(file, FallocateFlags::empty(), done, step))?;
        done += step;
    }
    Ok(())
}

/// Beyond RLIMIT_FSIZE the kernel would raise SIGXFSZ, which ends the process.
fn within_file_limit(end: u64) -> io::Result<()> {
    match file_size_limit() {
        Some(limit) if end > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Maps the first `size` bytes, shared.
pub(crate) fn map(file: &File, size: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(size).map_raw(file.as_fd().as_raw_fd())
}

/// Reads bytes from `offset` on into `into`, and returns how many there were.
pub(crate) fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match retry_on_intr(|| pread(file, &mut into[done..], offset + done as u64))? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Writes each part at its offset. No part ends after `end`. This can lengthen the file.
pub(crate) fn write_parts(file: &File, parts: &[(usize, &[u8])], end: u64) -> io::Result<()> {
    within_file_limit(end)?;
    for (offset, bytes) in parts {
        let mut done = 0;
        while done < bytes.len() {
            match retry_on_intr(|| pwrite(file, &bytes[done..], (offset + done) as u64))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => done += written,
            }
        }
    }
    Ok(())
}

/// Gives a file another name. Fails if the name exists.
pub(crate) fn link(name: &[u8], another: &[u8]) -> io::Result<()> {
    Ok(linkat(CWD, path(name), CWD, path(another), AtFlags::empty())?)
}

/// Removes a name if it refers to that file, and tells whether it did.
///
/// The kernel cannot do both in one step. If another process replaces the file in between, the new
/// name is removed.
pub(crate) fn unlink_if(name: &[u8], identity: Identity) -> io::Result<bool> {
    if facts_at(name)?.is_none_or(|facts| facts.identity != identity) {
        return Ok(false);
    }
    match unlink(path(name)) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns all names in the directory, with their inodes.
pub(crate) fn entries() -> io::Result<Vec<(OsString, u64)>> {
    let entries = std::fs::read_dir(DIRECTORY)?;
    entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.ino()))).collect()
}

/// Returns the bytes of a name from the directory.
pub(crate) fn bytes_of(name: &OsString) -> &[u8] {
    name.as_os_str().as_bytes()
}
