//! Why memory of another process cannot be used.

use std::io;

/// A descriptor does not lead to the memory that is expected.
///
/// Where it came inside a message, this is the cause of the decoding error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// It is not anonymous memory of a fixed size, but something else: a file, a socket, memory
    /// that could still shrink.
    #[error("the descriptor is not memory of a fixed size")]
    NotSealed,
    /// Somebody could still write it, and nobody is to.
    #[error("the memory is not frozen")]
    NotFrozen,
    /// It was frozen, and is to be written.
    #[error("the memory is frozen")]
    Frozen,
    /// It is no memory of this library, or of a version with another format.
    #[error("the memory was not made by this version of the library")]
    Format,
    /// It was made as another kind of memory, or for a type that is put together in another way.
    #[error("the memory holds values of another type")]
    Type,
    /// It is shorter or longer than what it says to hold.
    #[error("the memory has {found} bytes instead of {expected}")]
    Size {
        /// How many bytes there are.
        found: u64,
        /// How many there should be; `u64::MAX` if that is more than can be counted.
        expected: u64,
    },
    /// The message names values that the memory does not have.
    #[error("values {start} to {end} are not in the memory, which has {length}")]
    Range {
        /// The first of them.
        start: u64,
        /// The first behind them.
        end: u64,
        /// How many values there are.
        length: usize,
    },
    /// The operating system refused, for lack of descriptors or of address space for example.
    #[error("the memory could not be attached")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl AttachError {
    /// As a decoding error, which is a text: with the cause in it.
    pub(crate) fn explained<E: serde::de::Error>(self) -> E {
        match self {
            Self::Io(error) => E::custom(format_args!("the memory could not be attached: {error}")),
            other => E::custom(other),
        }
    }
}
