//! Why a list, or a slot of it, cannot be read or written.

use std::collections::TryReserveError;

use thiserror::Error;

use crate::SharedMemoryError;

/// What goes wrong with a [`ShareableList`](crate::ShareableList).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShareableListError {
    /// There is no slot of that number.
    #[error("there is no slot {index} in a list of {len}")]
    OutOfBounds {
        /// The number, from 0.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A value is longer than its slot, which keeps the room that it was created with; or, in a new
    /// list, longer than a slot can be.
    #[error("{length} bytes do not fit into a slot of {room}")]
    TooLong {
        /// The length of the value, in bytes.
        length: usize,
        /// The most that fits, in bytes.
        room: usize,
    },
    /// A value that ends with a NUL is longer than 999,999 bytes: the layout has no place to say
    /// how many of the NULs are its own.
    #[error("{length} bytes that end with a NUL do not fit into a slot: 999999 is the most for such")]
    TrailingNul {
        /// The length of the value, in bytes.
        length: usize,
    },
    /// A new list would have more bytes than there can be.
    #[error("a list of so many bytes cannot be made")]
    TooLarge,
    /// The shared memory of that name does not hold a list.
    #[error("shared memory {name:?} does not hold a list: {reason}")]
    NotAList {
        /// Without the leading slash.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What a slot holds is nothing that this library or CPython puts there. It may be in the
    /// middle of being set.
    #[error("slot {index} holds no value: {reason}")]
    BadSlot {
        /// The number of the slot, from 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This process has not so much memory for a copy.
    #[error("there is no memory for a copy of what the list holds")]
    OutOfMemory(#[from] TryReserveError),
    /// What goes wrong with the shared memory itself.
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
}
