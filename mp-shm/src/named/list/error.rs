//! Why a list or one of its slots could not be read or written.

use std::collections::TryReserveError;

use thiserror::Error;

use crate::SharedMemoryError;

/// The error of [`ShareableList`](crate::ShareableList).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShareableListError {
    /// There is no such slot.
    #[error("there is no slot {index} in a list of {len}")]
    OutOfBounds {
        /// The index, from 0.
        index: usize,
        /// The number of slots.
        len: usize,
    },
    /// A value is longer than its slot, whose length is fixed when the list is created. In a new
    /// list: it is longer than any slot can be.
    #[error("{length} bytes do not fit in a slot of {room} bytes")]
    TooLong {
        /// The length of the value, in bytes.
        length: usize,
        /// The length of the slot, in bytes.
        room: usize,
    },
    /// A value that ends with a NUL is longer than 999,999 bytes. The layout cannot record its
    /// length.
    #[error("{length} bytes that end with a NUL do not fit in a slot: at most 999999 such bytes do")]
    TrailingNul {
        /// The length of the value, in bytes.
        length: usize,
    },
    /// A new list would be larger than the address space.
    #[error("the list would be larger than the address space")]
    TooLarge,
    /// The shared memory of that name does not hold a list.
    #[error("shared memory {name:?} does not hold a list: {reason}")]
    NotAList {
        /// Without the leading slash.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The slot does not contain a value in the format of this library or CPython. Another process
    /// may be setting it.
    #[error("slot {index} does not hold a value: {reason}")]
    BadSlot {
        /// The index of the slot, from 0.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// This process has no memory for a copy of the values.
    #[error("there is no memory for a copy of the list's values: {0}")]
    OutOfMemory(TryReserveError),
    /// An error of the shared memory itself.
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
}

impl From<TryReserveError> for ShareableListError {
    fn from(error: TryReserveError) -> Self {
        Self::OutOfMemory(error)
    }
}
