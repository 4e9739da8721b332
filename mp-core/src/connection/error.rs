//! Why a message could not be sent or received.

use std::{fmt, io};

use crate::codec::{DecodeError, EncodeError};

/// A message that could not be sent, and why.
///
/// Nothing of it was sent: a message goes whole or not at all. The value is given back.
pub struct SendError<T> {
    /// The value that was to be sent.
    pub value: T,
    /// Why it was not.
    pub reason: SendErrorReason,
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// Every receiver is closed or dead.
    #[error("every receiver is gone")]
    Disconnected,
    /// The connection has no room and the call was not to wait.
    #[error("the connection is full")]
    Full,
    /// The connection had no room until the deadline.
    #[error("the connection had no room in time")]
    TimedOut,
    /// The value could not be encoded, or is longer than [`message_limit`](crate::message_limit).
    #[error("the message could not be encoded")]
    Encode(#[source] EncodeError),
    /// The operating system refused, for lack of descriptors or memory for example.
    #[error("the message could not be sent")]
    Io(#[source] io::Error),
}

impl<T> SendError<T> {
    /// Gives the value back.
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

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason.source()
    }
}

/// Why no message was received.
///
/// After everything but `Disconnected` and `Io` the connection goes on with the next message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Every sender is closed or dead, and every message that they sent was received.
    #[error("every sender is gone")]
    Disconnected,
    /// The sender died in the middle of a message longer than 256 KiB, or the message is shorter than it says, and the peer damaged or
    /// not one of ours.
    #[error("a message is incomplete")]
    Truncated,
    /// The message is not of the form that this library sends, so the peer is damaged or not one of ours.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
    /// The message is longer than [`message_limit`](crate::message_limit) allows here.
    #[error("a message of {length} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// The length of the message in bytes; of one that is refused while it arrives, what it has announced so far.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The message is not a value of the expected type.
    #[error("a message could not be decoded")]
    Decode(#[source] DecodeError),
    /// The message, which this holds whole, is longer than the buffer that it was to go into.
    #[error("a message of {} bytes does not fit into the buffer", .0.len())]
    BufferTooShort(Vec<u8>),
    /// The operating system refused, for lack of descriptors for example.
    #[error("no message could be received")]
    Io(#[source] io::Error),
}
