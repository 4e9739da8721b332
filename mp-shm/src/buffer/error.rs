//! Why a buffer could not be used, frozen or rejoined.

use std::fmt;
use std::io;

use super::Buffer;

/// Why the values of a buffer are not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// Another owner has some of them: the sender, which has not dropped its buffer, or another
    /// receiver of the same message.
    #[error("another owner has the buffer and has not dropped it")]
    InUse,
    /// The operating system could not lock the values.
    #[error("the buffer could not be locked: {0}")]
    Io(io::Error),
}

/// A buffer that could not be frozen, and why.
#[derive(thiserror::Error)]
#[error("the buffer could not be frozen: {}", .r#source)]
pub struct FreezeError<T> {
    /// The unchanged buffer. `None` if its memory could not be mapped again, because there is no
    /// address space or another process sealed it against new writers. The buffer is lost then.
    pub buffer: Option<Buffer<T>>,
    /// The reason: [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another process can still write
    /// to it or owns a part of it, [`InvalidInput`](io::ErrorKind::InvalidInput) if it is only a
    /// part of a buffer.
    pub r#source: io::Error,
}

impl<T> fmt::Debug for FreezeError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreezeError").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Parts of a buffer that could not be rejoined, and why.
#[derive(thiserror::Error)]
#[error("the parts could not be rejoined: {reason}")]
pub struct RejoinError<T> {
    /// The parts, in the order of their addresses. After [`Part`](RejoinErrorReason::Part) the
    /// unusable one is first.
    pub parts: Vec<Buffer<T>>,
    /// Why they could not be rejoined.
    pub reason: RejoinErrorReason,
}

impl<T> fmt::Debug for RejoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejoinError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Why parts could not be rejoined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RejoinErrorReason {
    /// There are no parts.
    #[error("there are no parts")]
    Empty,
    /// The parts are not all of one buffer.
    #[error("the parts belong to different buffers")]
    Foreign,
    /// Values between the parts are missing, or, for [`rejoin`](crate::Buffer::rejoin), values
    /// before or after them.
    #[error("values {start} to {end} of the buffer are missing")]
    Missing {
        /// The index, in the whole buffer, of the first missing value.
        start: usize,
        /// The index of the next value that is not missing.
        end: usize,
    },
    /// One of the parts cannot be used. It is the first in the returned parts.
    #[error("one of the parts cannot be used: {0}")]
    Part(BufferError),
    /// The operating system failed.
    #[error("the whole buffer could not be mapped: {0}")]
    Io(io::Error),
}
