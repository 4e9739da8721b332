//! Why an element cannot be used.

use std::error::Error;
use std::fmt;

use mp_sync::LockError;

/// What the methods for one element of an [`Array`](crate::Array) return instead.
///
/// `G` is what an owner's death does not withhold: the element for [`get`](crate::Array::get),
/// nothing for the others.
#[non_exhaustive]
pub enum ArrayError<G = ()> {
    /// There is no such element. The lock was not taken.
    OutOfBounds {
        /// Which was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The lock says why, and that of [`OwnerDied`](LockError::OwnerDied) what was left behind.
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
            // It is no cause of its own, but the error itself.
            Self::Lock(error) => error.fmt(f),
        }
    }
}

impl<G> Error for ArrayError<G> {}
