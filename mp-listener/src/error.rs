//! Why two sides did not come together, and why a message was not sent or received.

use std::io;

use crate::Address;

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer is closed or dead.
    #[error("the peer is gone")]
    Disconnected,
    /// A message was given up in the middle, by this call or an earlier one, so the connection was
    /// closed.
    #[error("the connection was closed in the middle of a message")]
    Closed,
    /// The connection had no room until the deadline. Nothing of the message was sent.
    #[error("the connection had no room in time")]
    TimedOut,
    /// The message is longer than [`message_limit`](mp_core::message_limit).
    #[error("a message of {length} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// The length of the message in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The value cannot be expressed as JSON.
    #[cfg(feature = "json")]
    #[error("the message could not be encoded")]
    Json(#[source] serde_json::Error),
    /// The operating system refused, for lack of memory for example.
    #[error("the message could not be sent")]
    Io(#[source] io::Error),
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer is closed or dead, and every message that it sent was received.
    #[error("the peer is gone")]
    Disconnected,
    /// The peer was closed or died in the middle of a message.
    #[error("a message is incomplete")]
    Truncated,
    /// A message was given up in the middle, by this call or an earlier one, so the connection was
    /// closed.
    #[error("the connection was closed in the middle of a message")]
    Closed,
    /// What arrived is not a message. Nothing tells where the next one begins, so the connection
    /// was closed.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
    /// The message is longer than [`message_limit`](mp_core::message_limit) allows. The next call
    /// continues after it.
    #[error("a message of {length} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// The length that the peer announced, in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The message, which this error holds, is longer than the buffer that was meant for it.
    #[error("a message of {} bytes does not fit into the buffer", .0.len())]
    BufferTooShort(Vec<u8>),
    /// The message is not JSON, or not a value of the expected type. The next call continues after
    /// it.
    #[cfg(feature = "json")]
    #[error("a message could not be decoded")]
    Json(#[source] serde_json::Error),
    /// The operating system refused, for lack of memory for example.
    #[error("no message could be received")]
    Io(#[source] io::Error),
}

/// Why the peer was not authenticated. The connection is closed.
///
/// Python's exception of the same name covers the first three and [`Protocol`](Self::Protocol).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The peer does not have the key of this side.
    #[error("the peer has another key")]
    WrongKey,
    /// The peer says that this side does not have its key.
    #[error("the peer refused the key of this side")]
    Rejected,
    /// The peer uses HMAC-MD5, as Python until 3.11 does, and this side was told to refuse that.
    #[error("the peer authenticates by HMAC-MD5, which this side refuses")]
    LegacyDigest,
    /// The peer sent back a challenge of this process, to have it answered by a side that has the
    /// key.
    #[error("the peer sent back a challenge of this process")]
    Reflected,
    /// The peer sent something that is not part of the handshake. It may have no key, or be another
    /// kind of program.
    #[error("the peer does not follow the handshake: {0}")]
    Protocol(&'static str),
    /// The peer closed the connection during the handshake. It may have no key, and have taken the
    /// challenge for a message.
    #[error("the peer closed the connection during the handshake; is an authentication key set on both sides?")]
    Disconnected,
    /// The handshake was not done in time. The peer may have no key and wait for a message, or be
    /// busy.
    #[error("the handshake was not done in time; is an authentication key set on both sides?")]
    TimedOut,
    /// The operating system refused, for lack of descriptors for example.
    #[error("the handshake failed")]
    Io(#[source] io::Error),
}

/// Why a [`Client`](crate::Client) has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there, the address is invalid, the queue was full until the deadline, or the
    /// operating system refused.
    #[error("could not connect to {address}")]
    Connect {
        /// What was to be connected to.
        address: Address,
        /// What the operating system said; `TimedOut` is the deadline.
        source: io::Error,
    },
    /// A program listens there, but the two sides did not authenticate each other.
    #[error("could not authenticate with {address}")]
    Authentication {
        /// What was connected to.
        address: Address,
        /// What went wrong.
        source: AuthenticationError,
    },
}

impl From<AuthenticationError> for io::Error {
    /// Keeps errors of the operating system as they are.
    fn from(error: AuthenticationError) -> Self {
        let kind = match error {
            AuthenticationError::Io(error) => return error,
            AuthenticationError::TimedOut => io::ErrorKind::TimedOut,
            AuthenticationError::Disconnected => io::ErrorKind::ConnectionAborted,
            AuthenticationError::Protocol(_) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

impl From<ConnectError> for io::Error {
    /// Keeps the kind, and the address in the text.
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Connect { source, .. } => source.kind(),
            ConnectError::Authentication { source: AuthenticationError::TimedOut, .. } => io::ErrorKind::TimedOut,
            ConnectError::Authentication { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}
