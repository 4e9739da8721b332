//! Why two sides were not connected, and why a message was not sent or received.

use std::io;

use crate::Address;

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer is closed or dead.
    #[error("the peer is closed")]
    Disconnected,
    /// A message was given up in the middle, by this call or an earlier one, so the connection was
    /// closed.
    #[error("the connection was closed in the middle of a message")]
    Closed,
    /// The connection had no room until the deadline. Nothing of the message was sent.
    #[error("the connection had no room before the timeout")]
    TimedOut,
    /// The message is longer than [`message_limit`](mp_core::message_limit).
    #[error("a message of {length} bytes is longer than the limit of {limit}; raise it with `set_message_limit`")]
    TooLarge {
        /// The length of the message in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The value cannot be expressed as JSON.
    #[cfg(feature = "json")]
    #[error("the message could not be encoded: {0}")]
    Json(serde_json::Error),
    /// The operating system failed, for example because memory ran out.
    #[error("the message could not be sent: {0}")]
    Io(io::Error),
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer is closed or dead, and every message that it sent was received.
    #[error("the peer is closed")]
    Disconnected,
    /// The peer was closed or died in the middle of a message.
    #[error("the peer was closed in the middle of a message")]
    Truncated,
    /// A message was given up in the middle, by this call or an earlier one, so the connection was
    /// closed.
    #[error("the connection was closed in the middle of a message")]
    Closed,
    /// The received bytes are not a message. The beginning of the next one cannot be found, so the
    /// connection was closed.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
    /// The message is longer than [`message_limit`](mp_core::message_limit) allows here. The next
    /// call continues after it.
    #[error("a message of {length} bytes is longer than the limit of {limit}; raise it with `set_message_limit`")]
    TooLarge {
        /// The length that the peer announced, in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The message is longer than the buffer. The error holds the message.
    #[error("a message of {} bytes does not fit into the buffer", .0.len())]
    BufferTooShort(Vec<u8>),
    /// The message is not JSON, or not a value of the expected type. The next call continues after
    /// it.
    #[cfg(feature = "json")]
    #[error("a message could not be decoded: {0}")]
    Json(serde_json::Error),
    /// The operating system failed, for example because memory ran out.
    #[error("a message could not be received: {0}")]
    Io(io::Error),
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
    /// The peer rejected this side's proof that it has the peer's key.
    #[error("the peer refused the key of this side")]
    Rejected,
    /// The peer uses HMAC-MD5, as Python until 3.11 does, and this side is set to refuse that.
    #[error("the peer authenticates by HMAC-MD5, which this side refuses")]
    LegacyDigest,
    /// The peer sent back a challenge of this process, so that a side that has the key would answer
    /// it.
    #[error("the peer sent back a challenge of this process")]
    Reflected,
    /// The peer sent something that is not part of the handshake. It may have no key, or be another
    /// kind of program.
    #[error("the peer does not follow the handshake: {0}")]
    Protocol(&'static str),
    /// The peer closed the connection during the handshake. Perhaps it has no key, and took the
    /// challenge for a message.
    #[error("the peer closed the connection during the handshake; is an authentication key set on both sides?")]
    Disconnected,
    /// The handshake was not complete before the timeout. The peer may have no key and wait for a
    /// message, or it is busy.
    #[error("the handshake was not complete before the timeout; is an authentication key set on both sides?")]
    TimedOut,
    /// The operating system failed, for example because descriptors ran out.
    #[error("the handshake failed: {0}")]
    Io(io::Error),
}

/// Why a [`Client`](crate::Client) has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No program listens there, the address is invalid, the queue of the listener was full until
    /// the deadline, or the operating system failed.
    #[error("could not connect to {address}: {}", .r#source)]
    Connect {
        /// The address.
        address: Address,
        /// The error of the operating system, or `TimedOut` at the deadline.
        r#source: io::Error,
    },
    /// A program listens there, but the two sides did not authenticate each other.
    #[error("could not authenticate with {address}: {}", .r#source)]
    Authentication {
        /// The address.
        address: Address,
        /// Why they did not.
        r#source: AuthenticationError,
    },
}

impl From<AuthenticationError> for io::Error {
    /// Returns errors of the operating system unchanged.
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
    /// Keeps the kind of the source and the address in the text.
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Connect { source, .. } => source.kind(),
            ConnectError::Authentication { source: AuthenticationError::TimedOut, .. } => io::ErrorKind::TimedOut,
            ConnectError::Authentication { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}
