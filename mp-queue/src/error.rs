//! Why a value could not be put or gotten.

use std::{fmt, io};

use mp_core::{DecodeError, EncodeError};

/// A value that could not be put, and why.
pub struct PutError<T> {
    /// The value.
    pub value: T,
    /// Why it could not be put.
    pub reason: PutErrorReason,
}

/// Why a value could not be put. It is not in the queue then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutErrorReason {
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// No consumer exists any longer: every handle that could get was dropped, or its process died.
    #[error("the queue has no consumer any longer")]
    Disconnected,
    /// The queue has no room, and the call does not wait.
    #[error("the queue is full")]
    Full,
    /// The queue had no room before the timeout.
    #[error("the queue had no room before the timeout")]
    TimedOut,
    /// The value could not be encoded.
    #[error("the value could not be encoded: {0}")]
    Encode(EncodeError),
    /// Another process damaged the queue's memory.
    #[error("the memory of the queue is damaged: {0}")]
    Damaged(&'static str),
    /// The operating system refused.
    #[error("the value could not be put into the queue: {0}")]
    Io(io::Error),
}

impl<T> PutError<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T> std::error::Error for PutError<T> {}

/// Several values of which some could not be put.
pub struct PutManyError<T> {
    /// How many were put before it failed.
    pub put: usize,
    /// The values that were taken from the iterator and not put, in order. The first is the one
    /// that could not be put.
    pub values: Vec<T>,
    /// Why it could not be put.
    pub reason: PutErrorReason,
}

impl<T> fmt::Debug for PutManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutManyError")
            .field("put", &self.put)
            .field("values", &self.values.len())
            .field("reason", &self.reason)
            .finish()
    }
}

impl<T> fmt::Display for PutManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} values: {}", self.put, self.reason)
    }
}

impl<T> std::error::Error for PutManyError<T> {}

/// Why no value could be gotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The queue was closed, and is empty.
    #[error("the queue is closed")]
    Closed,
    /// The queue is empty, and no producer exists any longer: every handle that could put was
    /// dropped, or its process died.
    #[error("the queue has no producer any longer")]
    Disconnected,
    /// A value could not be decoded. It was taken from the queue, which goes on.
    #[error("a value could not be decoded: {0}")]
    Decode(DecodeError),
    /// Another process damaged the queue's memory.
    #[error("the memory of the queue is damaged: {0}")]
    Damaged(&'static str),
    /// The operating system refused. If it refused the descriptors of a value, because this process
    /// has too few free, the value is lost.
    #[error("a value could not be taken from the queue: {0}")]
    Io(io::Error),
}

/// Several values were taken from the queue, and some could not be decoded.
pub struct GetManyError<T> {
    /// The values that could be decoded, in order.
    pub values: Vec<T>,
    /// How many were taken and could not be decoded.
    pub failed: usize,
    /// Why the first of those could not, or why nothing was taken.
    pub reason: GetError,
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetManyError")
            .field("values", &self.values.len())
            .field("failed", &self.failed)
            .field("reason", &self.reason)
            .finish()
    }
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T> std::error::Error for GetManyError<T> {}

/// [`JoinableQueue::task_done`](crate::JoinableQueue::task_done) was called more often than values
/// were gotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more tasks were reported done than were gotten")]
pub struct TooManyTasksDone(pub(crate) ());

/// Why the tasks of a [`JoinableQueue`](crate::JoinableQueue) will not all be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Processes that got tasks died, or dropped their handles, before they reported them done.
    #[error("{tasks} tasks were abandoned by the processes that got them")]
    Abandoned {
        /// How many tasks.
        tasks: usize,
    },
    /// Tasks are left, and no consumer exists any longer.
    #[error("the queue has no consumer any longer, and tasks are left")]
    Disconnected,
    /// The operating system refused to say who holds the queue.
    #[error("the holders of the queue could not be determined: {0}")]
    Io(io::Error),
}
