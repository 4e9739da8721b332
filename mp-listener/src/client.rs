//! Connecting.

use std::io;
use std::time::Duration;

use mp_core::raw::Deadline;

use crate::challenge::Role;
use crate::handshake::{Credentials, authenticate};
use crate::sys::stream;
use crate::waits::{Waits, now};
use crate::{Address, AuthKey, ByteConnection, ConnectError, HANDSHAKE_TIMEOUT};

/// Connects to a [`Listener`](crate::Listener) of this library or of Python.
///
/// Either both sides have a key or neither has. If only the listener has one, the client gets a
/// connection whose first message is the listener's challenge, and the listener closes it. If only
/// the client has one, it waits for a challenge until its deadline.
///
/// # Examples
///
/// ```
/// use mp_listener::{Address, AuthenticationError, Client, ConnectError, Listener};
///
/// let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), b"right")?;
/// let address = listener.address().clone();
/// let server = std::thread::spawn(move || listener.accept().unwrap().authenticate());
/// let error = Client::connect_with_key(&address, b"wrong").unwrap_err();
/// assert!(matches!(error, ConnectError::Authentication { source: AuthenticationError::Rejected, .. }));
/// assert!(server.join().unwrap().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// There are no values of this type. Connecting returns a [`ByteConnection`].
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Connects to a listener without a key. Nothing proves the identity of the listener. The
    /// address is as for [`Listener::bind`](crate::Listener::bind).
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connect`] if no program listens there, or if the queue of the listener stays
    /// full for 10 seconds.
    pub fn connect(address: impl Into<Address>) -> Result<ByteConnection, ConnectError> {
        Self::builder().connect(address)
    }

    /// Connects to a listener that has the same key, and verifies that it has.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`ConnectError::Authentication`] if the listener has
    /// another key or none, or if the handshake is not complete within 10 seconds.
    pub fn connect_with_key(
        address: impl Into<Address>,
        key: impl Into<AuthKey>,
    ) -> Result<ByteConnection, ConnectError> {
        Self::builder().key(key).connect(address)
    }

    /// Returns a builder, for more settings than a key.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { key: None, legacy: true, timeout: HANDSHAKE_TIMEOUT }
    }
}

/// Sets how to connect: see [`Client::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_listener::{Address, Client, ConnectError};
///
/// let unused = Address::Abstract(b"no program listens here".to_vec());
/// let result = Client::builder().key(b"secret password").timeout(Duration::from_secs(1)).connect(unused);
/// assert!(matches!(result, Err(ConnectError::Connect { .. })));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    key: Option<AuthKey>,
    legacy: bool,
    timeout: Duration,
}

impl ClientBuilder {
    /// Sets the key. Each side then proves to the other that it has the key. It must not be empty.
    pub fn key(mut self, key: impl Into<AuthKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets whether the listener may use HMAC-MD5, the only digest of Python until 3.11. The
    /// default is true. See
    /// [`ListenerBuilder::legacy_digest`](crate::ListenerBuilder::legacy_digest).
    pub fn legacy_digest(mut self, accept: bool) -> Self {
        self.legacy = accept;
        self
    }

    /// Sets how long connecting and the handshake together may take. The default is 10 seconds.
    /// `Duration::MAX` means no limit.
    ///
    /// If a host has several addresses, the client tries one after another, and a dead one cannot
    /// use up the time of the others: with three addresses, the first gets a third of the time, and
    /// what it leaves is divided between the other two. Without a limit, each is tried until the
    /// operating system gives up, which can take minutes. The handshake can use all of the
    /// remaining time.
    ///
    /// A listener in Python does one handshake at a time, and only while it is in `accept`. Looking
    /// up the name of a host has its own time limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects to `address`.
    ///
    /// # Errors
    ///
    /// As [`Client::connect_with_key`]. An empty key is `InvalidInput`.
    pub fn connect(self, address: impl Into<Address>) -> Result<ByteConnection, ConnectError> {
        let address = address.into();
        let deadline = Deadline::after(self.timeout);
        let connected = Credentials::new(self.key, self.legacy)
            .and_then(|credentials| Ok((connect(&address, deadline)?, credentials)));
        let (mut connection, credentials) = match connected {
            Ok(connected) => connected,
            Err(source) => return Err(ConnectError::Connect { address, source }),
        };
        let Some(credentials) = credentials else { return Ok(connection) };
        match now(authenticate(&mut connection, &credentials, Role::Client, &Waits::Thread(deadline))) {
            Ok(()) => Ok(connection),
            Err(source) => Err(ConnectError::Authentication { address, source }),
        }
    }
}

fn connect(address: &Address, deadline: Deadline) -> io::Result<ByteConnection> {
    let resolved = address.resolve()?;
    try_each(&resolved, deadline, stream::connect).map(ByteConnection::new)
}

/// Tries one address after another, and returns the first success or the last error. Each attempt
/// gets an equal share of the time that is left, and the last one all of it.
fn try_each<A, C>(
    addresses: &[A],
    deadline: Deadline,
    mut connect: impl FnMut(&A, Deadline) -> io::Result<C>,
) -> io::Result<C> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    let mut shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let until = match deadline.left() {
            Some(left) if shares > 1 => Deadline::after(left / shares),
            _ => deadline,
        };
        match connect(address, until) {
            Ok(connected) => return Ok(connected),
            Err(error) => refused = error,
        }
        shares = shares.saturating_sub(1);
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leaves_time_for_those_after_it() {
        // Long enough that the speed of the machine does not matter.
        let whole = Duration::from_secs(300_000);
        let mut given = Vec::new();
        let error = try_each(&["a", "b", "c"], Deadline::after(whole), |address, deadline| -> io::Result<()> {
            given.push(deadline.left().unwrap());
            Err(io::Error::other(*address))
        });
        assert_eq!(error.unwrap_err().to_string(), "c");
        for (given, shares) in given.iter().zip([3, 2, 1]) {
            let most = whole / shares;
            assert!(*given <= most && *given > most - Duration::from_secs(1000), "{given:?} of {most:?}");
        }
        assert_eq!(given.len(), 3);
    }

    #[test]
    fn the_first_that_succeeds_is_the_last_that_is_tried() {
        let mut tried = Vec::new();
        let found = try_each(&[1, 2, 3], Deadline::NEVER, |address, deadline| {
            assert!(deadline.is_never());
            tried.push(*address);
            if *address == 2 { Ok(20) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        });
        assert_eq!((found.unwrap(), tried), (20, vec![1, 2]));
        let nothing: [u8; 0] = [];
        let error = try_each(&nothing, Deadline::NEVER, |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
