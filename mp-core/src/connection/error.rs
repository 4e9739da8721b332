//! Why a message could not be sent or received.

use std::{fmt, io};

use crate::codec::{DecodeError, EncodeError};

/// A message that could not be sent, and why.
///
/// Nothing was sent: a message is sent whole or not at all. The error holds the value.
pub struct SendError<T> {
    /// The value.
    pub value: T,
    /// Why it was not sent.
    pub reason: SendErrorReason,
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// Every receiver is closed or dead.
    #[error("every receiver is closed")]
    Disconnected,
    /// The connection has no room, and the call does not wait.
    #[error("the connection is full; try again after the receiver has made room")]
    Full,
    /// The connection had no room until the deadline.
    #[error("the connection had no room before the timeout")]
    TimedOut,
    /// The value could not be encoded, or is longer than [`message_limit`](crate::message_limit).
    #[error("the message could not be encoded: {0}")]
    Encode(EncodeError),
    /// The operating system failed, for example because descriptors or memory ran out.
    #[error("the message could not be sent: {0}")]
    Io(io::Error),
}

impl<T> SendError<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why no message was received.
///
/// After an error other than `Disconnected` and `Io`, the next call receives the next message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Every sender is closed or dead, and every message that they sent was received.
    #[error("every sender is closed")]
    Disconnected,
    /// The message is shorter than its header says, so the peer is damaged or does not use this
    /// library.
    #[error("a message is shorter than it announces")]
    Truncated,
    /// The message does not have the form that this library sends, so the peer is damaged or does
    /// not use this library.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
    /// The message is longer than [`message_limit`](crate::message_limit) allows here.
    #[error("a message of {length} bytes is longer than the limit of {limit}; raise it with `set_message_limit`")]
    TooLarge {
        /// The length of the message in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The message is not a value of the expected type.
    #[error("a message could not be decoded: {0}")]
    Decode(DecodeError),
    /// The message is longer than the buffer. The error holds the message.
    #[error("a message of {} bytes does not fit into the buffer", .0.len())]
    BufferTooShort(Vec<u8>),
    /// The operating system failed, for example because descriptors ran out.
    #[error("a message could not be received: {0}")]
    Io(io::Error),
}
