//! Why there is no shared memory, or none there.

use std::io;

use thiserror::Error;

use super::name::NameError;

/// What goes wrong with [`SharedMemory`](crate::SharedMemory).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// It cannot be called that.
    #[error("{name:?} cannot be the name of shared memory")]
    InvalidName {
        /// The name as it was given.
        name: String,
        /// Why not.
        source: NameError,
    },
    /// Shared memory has at least one byte, and at most `isize::MAX`.
    #[error("shared memory cannot have {size} bytes")]
    InvalidSize {
        /// In bytes.
        size: usize,
    },
    /// There is something of that name already.
    #[error("there is shared memory named {name:?} already")]
    Exists {
        /// Without the leading slash.
        name: String,
    },
    /// There is nothing of that name, or, when it is to be unlinked, something else.
    #[error("there is no shared memory named {name:?}")]
    NotFound {
        /// Without the leading slash.
        name: String,
    },
    /// There is something of that name, or in that message, that is not shared memory: a symbolic
    /// link, a directory, a file on a disk, or one that is empty, which is what shared memory is
    /// for a moment while a program in C or Python creates it.
    #[error("{name:?} is not shared memory: {reason}")]
    NotSharedMemory {
        /// Without the leading slash.
        name: String,
        /// What it is instead.
        reason: &'static str,
    },
    /// There is not enough memory: the file system `/dev/shm` is full (half of the machine's
    /// memory, by default), the machine's memory or this process's address space is, or the process
    /// may not make files of that length (`RLIMIT_FSIZE`).
    #[error("there is no room for {size} bytes of shared memory")]
    NoRoom {
        /// In bytes.
        size: usize,
        /// What the system says.
        source: io::Error,
    },
    /// These bytes are not inside the shared memory. Nothing was read or written.
    #[error("{length} bytes from {offset} on are not inside shared memory of {size} bytes")]
    OutOfBounds {
        /// Where they begin.
        offset: usize,
        /// How many they are.
        length: usize,
        /// How many bytes there are.
        size: usize,
    },
    /// Somebody has made the shared memory shorter than it was when it was opened.
    #[error("shared memory {name:?} was shortened to {size} bytes by another process")]
    Shortened {
        /// Without the leading slash.
        name: String,
        /// How many bytes are left.
        size: usize,
    },
    /// The system refuses.
    #[error("could not {action} shared memory {name:?}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Without the leading slash; empty before there is one.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

impl SharedMemoryError {
    pub(super) fn io(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, name: name.to_owned(), source }
    }

    /// For what needs memory.
    pub(super) fn no_room(action: &'static str, name: &str, size: usize) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::ENOSPC | libc::ENOMEM | libc::EFBIG | libc::EDQUOT) => Self::NoRoom { size, source },
            _ => Self::io(action, name)(source),
        }
    }
}
