//! Why received memory could not be attached.

use std::io;

/// A descriptor is not one of the expected memory.
///
/// If it arrived in a message, the decoding error contains this text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// It is not anonymous memory of a fixed size, but for example a file, a socket, or memory that
    /// could still shrink.
    #[error("the descriptor is not memory of a fixed size")]
    NotSealed,
    /// The memory has to be frozen, and a process could still write to it.
    #[error("the memory is not frozen")]
    NotFrozen,
    /// The memory has to be writable, and it is frozen.
    #[error("the memory is frozen")]
    Frozen,
    /// The memory is frozen and has pages that were never allocated. Reading them would cost this
    /// process the memory that they did not cost its sender.
    /// [`Buffer::freeze`](crate::Buffer::freeze) allocates them.
    #[error("the memory is frozen, and parts of it were never allocated")]
    Holes,
    /// It was not made by this library, or by a version with another format.
    #[error("the memory was not made by this version of the library")]
    Format,
    /// It was made as another kind of memory, or for a type with another layout.
    #[error("the memory holds values of another type")]
    Type,
    /// Its size is not the one that its header implies.
    #[error("the memory has {found} bytes instead of {expected}")]
    Size {
        /// Its size in bytes.
        found: u64,
        /// The expected size in bytes, or `u64::MAX` if that overflows.
        expected: u64,
    },
    /// The message names values that the memory does not have.
    #[error("values {start} to {end} are not in the memory, which has {length}")]
    Range {
        /// The index of the first value.
        start: u64,
        /// The index after the last value.
        end: u64,
        /// The number of values in the memory.
        length: usize,
    },
    /// The operating system failed, for example for lack of descriptors or address space.
    #[error("the memory could not be attached: {0}")]
    Io(io::Error),
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl AttachError {
    /// Converts it to a decoding error. That is a text, so it contains the source.
    pub(crate) fn explained<E: serde::de::Error>(self) -> E {
        match self {
            Self::Io(error) => E::custom(format_args!("the memory could not be attached: {error}")),
            other => E::custom(other),
        }
    }
}
