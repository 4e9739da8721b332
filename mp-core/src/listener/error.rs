//! Why two sides did not come together.

use std::io;

use super::Address;

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
    #[error("the peer authenticates by HMAC-MD5, which is refused here")]
    LegacyDigest,
    /// The peer sent back a challenge of this process, to have it answered by the one who knows the answer.
    #[error("the peer sent back a challenge of this process")]
    Reflected,
    /// The peer sent something that has no place in the handshake. It may want no key, or be no such program at all.
    #[error("the peer does not follow the handshake: {0}")]
    Protocol(&'static str),
    /// The peer closed the connection during the handshake. It may have no key, and taken the challenge for a message.
    #[error("the peer closed the connection during the handshake: has it a key?")]
    Disconnected,
    /// The handshake was not done in time. The peer may have no key, and wait for a message, or be busy.
    #[error("the handshake was not done in time: has the peer a key?")]
    TimedOut,
    /// The operating system refused, for lack of descriptors for example.
    #[error("the handshake failed")]
    Io(#[source] io::Error),
}

/// Why [`accept`](super::Listener::accept) has no connection to give. The listener goes on in either case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// One client was not authenticated. The others are not affected.
    #[error("a client was not authenticated")]
    Authentication(#[from] AuthenticationError),
    /// The operating system refused to accept a connection, for lack of descriptors for example. The client may still be waiting.
    #[error("no connection could be accepted")]
    Io(#[source] io::Error),
}

/// Why a [`Client`](super::Client) has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there, the address is none, the queue was full until the deadline, or the operating system refused.
    #[error("could not connect to {address}")]
    Connect {
        /// What was to be connected to.
        address: Address,
        /// What the operating system said; `TimedOut` is the deadline.
        source: io::Error,
    },
    /// Someone listens there, but the two sides did not recognise each other.
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

impl From<AcceptError> for io::Error {
    /// Keeps errors of the operating system as they are.
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(error) => error,
            AcceptError::Authentication(error) => error.into(),
        }
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
