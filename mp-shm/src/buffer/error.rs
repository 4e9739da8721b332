//! Why a buffer cannot be used, frozen or put together.

use std::fmt;
use std::io;

use super::Buffer;

/// Why the values of a buffer are not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// Another owner has them, or some of them: the sender, which has not dropped its buffer, or
    /// another receiver of the same message.
    #[error("another owner has the buffer and has not dropped it")]
    InUse,
    /// The operating system refused the lock.
    #[error("the buffer could not be locked")]
    Io(#[source] io::Error),
}

/// A buffer that could not be frozen, and why.
#[derive(thiserror::Error)]
#[error("the buffer could not be frozen")]
pub struct FreezeError<T> {
    /// The buffer, as it was. `None` if its memory could not be mapped again, for lack of address
    /// space, or because another process that had it has sealed it against new writers: then it is
    /// lost.
    pub buffer: Option<Buffer<T>>,
    /// Why: [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another process can still write it, or
    /// has part of it; [`InvalidInput`](io::ErrorKind::InvalidInput) if it is a part of a buffer
    /// itself.
    pub source: io::Error,
}

impl<T> fmt::Debug for FreezeError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreezeError").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Parts of a buffer that could not be put together, and why.
#[derive(thiserror::Error)]
#[error("the parts could not be put together")]
pub struct RejoinError<T> {
    /// The parts, in the order in which they lie in memory, as far as that was found out.
    pub parts: Vec<Buffer<T>>,
    /// Why they could not.
    #[source]
    pub reason: RejoinErrorReason,
}

impl<T> fmt::Debug for RejoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejoinError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Why parts could not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RejoinErrorReason {
    /// There are none.
    #[error("there are no parts")]
    Empty,
    /// Not all are parts of one buffer.
    #[error("the parts belong to different buffers")]
    Foreign,
    /// Something lies between them, or, where it is to be the whole buffer, before or behind them.
    #[error("values {start} to {end} of the buffer are missing")]
    Missing {
        /// The first that is missing, by its place in the whole buffer.
        start: usize,
        /// The first behind it that is there.
        end: usize,
    },
    /// One of the parts cannot be used; it is the first of those that are given back.
    #[error("one of the parts cannot be used")]
    Part(#[source] BufferError),
    /// The operating system refused.
    #[error("the whole buffer could not be mapped")]
    Io(#[source] io::Error),
}
