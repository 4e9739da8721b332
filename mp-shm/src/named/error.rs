//! Why shared memory could not be created, opened or used.

use std::io;

use thiserror::Error;

use super::name::NameError;

/// The error of [`SharedMemory`](crate::SharedMemory).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// The name is not valid.
    #[error("{name:?} is not a valid name for shared memory")]
    InvalidName {
        /// The name.
        name: String,
        /// Why it is not valid.
        source: NameError,
    },
    /// The size is zero, or greater than `isize::MAX`.
    #[error("shared memory cannot have {size} bytes")]
    InvalidSize {
        /// The size in bytes.
        size: usize,
    },
    /// The name is already in use.
    #[error("shared memory named {name:?} already exists")]
    Exists {
        /// The name, without the leading slash.
        name: String,
    },
    /// There is no memory of that name, or, when unlinking, the name refers to other memory.
    #[error("there is no shared memory named {name:?}")]
    NotFound {
        /// The name, without the leading slash.
        name: String,
    },
    /// What has that name, or is in that message, is not shared memory: a symbolic link, a
    /// directory, a file on a disk, or an empty file. While a program in C or Python creates shared
    /// memory, it is empty for a moment.
    #[error("{name:?} is not shared memory: {reason}")]
    NotSharedMemory {
        /// The name, without the leading slash.
        name: String,
        /// Why it is not.
        reason: &'static str,
    },
    /// There is not enough memory: the file system `/dev/shm` is full (its size is half of the
    /// machine's memory by default), the machine's memory or this process's address space is used
    /// up, or the process may not make files of that length (`RLIMIT_FSIZE`).
    #[error("there is no room for {size} bytes of shared memory")]
    NoRoom {
        /// The size in bytes.
        size: usize,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The bytes are not within the shared memory. None was read or written.
    #[error("{length} bytes from offset {offset} are not within shared memory of {size} bytes")]
    OutOfBounds {
        /// The offset of the first byte.
        offset: usize,
        /// The number of bytes.
        length: usize,
        /// The size of the memory in bytes.
        size: usize,
    },
    /// Another process made the memory shorter than it was when this process opened it.
    #[error("shared memory {name:?} was shortened to {size} bytes by another process")]
    Shortened {
        /// The name, without the leading slash.
        name: String,
        /// The size that is left, in bytes.
        size: usize,
    },
    /// The operating system failed.
    #[error("could not {action} shared memory {name:?}")]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The name, without the leading slash; empty if there is no name yet.
        name: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl SharedMemoryError {
    pub(super) fn io(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, name: name.to_owned(), source }
    }

    /// Converts an error of an operation that needs memory.
    pub(super) fn no_room(action: &'static str, name: &str, size: usize) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::ENOSPC | libc::ENOMEM | libc::EFBIG | libc::EDQUOT) => Self::NoRoom { size, source },
            _ => Self::io(action, name)(source),
        }
    }
}
