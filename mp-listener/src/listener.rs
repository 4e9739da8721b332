//! Listening and accepting.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::{Deadline, PollableFd};

use crate::challenge::Role;
use crate::file::SocketFile;
use crate::handshake::{Credentials, authenticate};
use crate::sys::stream;
use crate::waits::{Waits, now};
use crate::{Address, AuthKey, AuthenticationError, ByteConnection, HANDSHAKE_TIMEOUT};

/// Waits at an [`Address`] for programs in Rust or Python to connect.
///
/// [`accept`](Self::accept) returns a client that has connected, and [`Incoming::authenticate`]
/// does the handshake with it. These are two steps, so that a client that is slow or silent in its
/// handshake does not delay others: accept in a loop, and authenticate on a thread or in a task for
/// each client, as below.
///
/// With a key, a handshake succeeds only if the client proves that it has the same key, and this
/// side proves the same to the client. **Without a key, every program that can connect is
/// accepted**: over TCP and for abstract names, that is everyone. Nothing is encrypted in either
/// case, so a program that can read or change the traffic can do so after the handshake as well.
/// Use a tunnel between machines.
///
/// Only the same user can connect to the file of a unix socket; [`mode`](ListenerBuilder::mode)
/// changes that. Dropping the listener removes the file, unless another file has replaced it.
///
/// # Process death
///
/// If the process is killed, the file of a unix socket remains. Remove it before you bind its path
/// again: until then `bind` fails with `AddrInUse`, as in Python, because it cannot distinguish a
/// dead owner from one that is about to listen. Abstract names and ports do not have this problem.
/// The connections of clients that are not accepted yet end.
///
/// # Examples
///
/// ```
/// use mp_listener::{Address, AuthKey, Client, Listener};
///
/// let key = AuthKey::random()?;
/// let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), &key)?;
/// let address = listener.address().clone(); // with the name that the kernel chose
///
/// std::thread::spawn(move || -> std::io::Result<()> {
///     loop {
///         let incoming = listener.accept()?;
///         std::thread::spawn(move || match incoming.authenticate() {
///             Ok(mut connection) => connection.send_bytes(b"welcome").unwrap_or_else(|error| eprintln!("{error}")),
///             Err(error) => eprintln!("a client was refused: {error}"),
///         });
///     }
/// });
/// let _silent = Client::connect(&address)?; // without the key
/// assert_eq!(Client::connect_with_key(&address, &key)?.recv_bytes()?, b"welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    // Dropped in this order: the file is removed before its socket is closed.
    _file: Option<SocketFile>,
    socket: PollableFd,
    /// The settings of the handshake. Without a key there is no handshake.
    credentials: Option<Arc<Credentials>>,
    address: Address,
}

impl Listener {
    /// Listens at `address` without a key: **every program that can connect is accepted**.
    ///
    /// The address is an [`Address`] or converts into one: `Path::new("/run/app/socket")`, a
    /// `SocketAddr`, `("localhost", 6000)`. A text has to be parsed: `text.parse::<Address>()?`.
    ///
    /// A host can have several addresses. The listener uses the first one that can be bound, and
    /// [`address`](Self::address) returns it. `localhost` may be `::1` or `127.0.0.1`, and a client
    /// that uses only the other one does not find the listener. If that matters, use an address
    /// instead of a name.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another process listens there, or if the file of a unix socket exists,
    /// whether or not a process has it open. Other errors if the address does not belong to this
    /// machine, its host is not found, or the operating system fails.
    pub fn bind(address: impl Into<Address>) -> io::Result<Self> {
        Self::builder().bind(address)
    }

    /// Listens at `address` for programs that have `key`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and `InvalidInput` if the key is empty.
    pub fn bind_with_key(address: impl Into<Address>, key: impl Into<AuthKey>) -> io::Result<Self> {
        Self::builder().key(key).bind(address)
    }

    /// Returns a builder, for more settings than a key.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder { key: None, legacy: true, backlog: 128, mode: 0o600 }
    }

    /// Returns the address, with the port or the abstract name that the kernel chose, and with the
    /// address that was found for a host.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client to connect. Several threads can accept at once.
    ///
    /// # Errors
    ///
    /// Fails if the operating system fails, for example because descriptors ran out. The client may
    /// still be waiting then.
    pub fn accept(&self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = now(self.accept_by(&Waits::Thread(Deadline::NEVER)))? {
                return Ok(incoming);
            }
        }
    }

    /// Accepts a client if one has connected, and never waits.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn try_accept(&self) -> io::Result<Option<Incoming>> {
        now(self.accept_by(&Waits::Thread(Deadline::PASSED)))
    }

    /// Waits for a client to connect, for `timeout` at most; `None` if none did.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<Option<Incoming>> {
        now(self.accept_by(&Waits::Thread(Deadline::after(timeout))))
    }

    pub(crate) async fn accept_by(&self, waits: &Waits) -> io::Result<Option<Incoming>> {
        loop {
            if let Some(socket) = stream::accept(self.as_fd())? {
                let connection = ByteConnection::new(socket);
                return Ok(Some(Incoming { connection, credentials: self.credentials.clone() }));
            }
            if !waits.readable(&self.socket).await? {
                return Ok(None);
            }
        }
    }
}

/// The listening socket: readable when a client has connected.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A client that has connected and is not authenticated yet.
///
/// It can be moved to another thread for its handshake. Dropping it closes the connection.
#[must_use = "dropping it closes the connection"]
pub struct Incoming {
    connection: ByteConnection,
    credentials: Option<Arc<Credentials>>,
}

impl Incoming {
    /// Does the handshake within 10 seconds. If the listener has no key, there is no handshake, and
    /// this succeeds at once.
    ///
    /// # Errors
    ///
    /// Fails if the client does not prove before the deadline that it has the listener's key, or if
    /// it rejects the listener's proof. The connection is closed then.
    pub fn authenticate(self) -> Result<ByteConnection, AuthenticationError> {
        self.authenticate_timeout(HANDSHAKE_TIMEOUT)
    }

    /// Does the handshake within `timeout`, counted from this call.
    ///
    /// # Errors
    ///
    /// As [`authenticate`](Self::authenticate).
    pub fn authenticate_timeout(self, timeout: Duration) -> Result<ByteConnection, AuthenticationError> {
        now(self.authenticate_by(&Waits::Thread(Deadline::after(timeout))))
    }

    /// Returns the address of the client. It is `None` if the client has none, as usual for unix
    /// sockets.
    ///
    /// # Errors
    ///
    /// Fails if the connection has ended.
    pub fn peer_address(&self) -> io::Result<Option<Address>> {
        self.connection.peer_address()
    }

    pub(crate) async fn authenticate_by(mut self, waits: &Waits) -> Result<ByteConnection, AuthenticationError> {
        if let Some(credentials) = &self.credentials {
            authenticate(&mut self.connection, credentials, Role::Listener, waits).await?;
        }
        Ok(self.connection)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("fd", &self.connection.as_fd()).finish_non_exhaustive()
    }
}

/// Sets how to listen: see [`Listener::builder`].
///
/// # Examples
///
/// ```
/// use mp_listener::{Address, Listener};
///
/// let listener = Listener::builder()
///     .key(b"secret password")
///     .legacy_digest(false)
///     .backlog(16)
///     .bind(Address::Abstract(Vec::new()))?;
/// assert!(listener.try_accept()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct ListenerBuilder {
    key: Option<AuthKey>,
    legacy: bool,
    backlog: i32,
    mode: u32,
}

impl ListenerBuilder {
    /// Sets the key that clients must have. It must not be empty.
    pub fn key(mut self, key: impl Into<AuthKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets whether clients may authenticate by HMAC-MD5, the only digest of Python until 3.11. The
    /// default is true. Python 3.12 and later accept HMAC-MD5 as well. It is not known to be
    /// broken, but new programs should not rely on it.
    pub fn legacy_digest(mut self, accept: bool) -> Self {
        self.legacy = accept;
        self
    }

    /// Sets how many clients can wait to be accepted. The default is 128. The kernel's own limit is
    /// `net.core.somaxconn`.
    pub fn backlog(mut self, clients: u16) -> Self {
        self.backlog = clients.into();
        self
    }

    /// Sets the mode of the file of a unix path, before the umask. The default is `0o600`.
    /// Connecting needs permission to write. Other addresses have no mode.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Listens at `address`.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind_with_key`].
    pub fn bind(self, address: impl Into<Address>) -> io::Result<Listener> {
        let address = address.into();
        let credentials = Credentials::new(self.key, self.legacy)?.map(Arc::new);
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for resolved in address.resolve()? {
            let socket: OwnedFd = match stream::bind(&resolved, self.mode) {
                Ok(socket) => socket,
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            // From here on, an error removes the file.
            let file = match &address {
                Address::Unix(path) => Some(SocketFile::bound(path)?),
                _ => None,
            };
            stream::listen(socket.as_fd(), self.backlog)?;
            let bound = Address::from_kernel(stream::local_address(socket.as_fd())?);
            let (socket, address) = (PollableFd::new(socket), bound.unwrap_or(address));
            return Ok(Listener { _file: file, socket, credentials, address });
        }
        Err(refused)
    }
}
