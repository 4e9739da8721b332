//! Why an element could not be read or changed.

use std::error::Error;
use std::fmt;

use mp_sync::LockError;

/// The error of the methods for one element of an [`Array`](crate::Array).
///
/// `G` is what the error contains after the death of an owner: the element for
/// [`get`](crate::Array::get), `()` for the others.
#[non_exhaustive]
pub enum ArrayError<G = ()> {
    /// There is no such element. The lock was not taken.
    OutOfBounds {
        /// The index.
        index: usize,
        /// The number of elements.
        len: usize,
    },
    /// The lock returned an error.
    Lock(LockError<G>),
}

impl<G> From<LockError<G>> for ArrayError<G> {
    fn from(error: LockError<G>) -> Self {
        Self::Lock(error)
    }
}

impl<G> fmt::Debug for ArrayError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { index, len } => {
                f.debug_struct("OutOfBounds").field("index", index).field("len", len).finish()
            }
            Self::Lock(error) => f.debug_tuple("Lock").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for ArrayError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { index, len } => write!(f, "there is no element {index} in an array of {len}"),
            // The lock's error is this error itself, not its source.
            Self::Lock(error) => error.fmt(f),
        }
    }
}

impl<G> Error for ArrayError<G> {}
