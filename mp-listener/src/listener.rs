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

/// Waits at an [`Address`] for programs that connect, in Rust or in Python.
///
/// [`accept`](Self::accept) returns a client that has connected, and [`Incoming::authenticate`]
/// does the handshake with it. They are two steps so that a client that is slow or silent in its
/// handshake holds up no other: accept in a loop, and authenticate on a thread (or in a task) for
/// each client, as below.
///
/// With a key, a handshake succeeds only if the client proves that it has the same key, and this
/// side proves the same to the client. **Without a key, every program that can connect is let in**:
/// over TCP and for abstract names, that is everyone. Nothing is encrypted in either case, so a
/// program that can read or change what is on the wire can do so after the handshake as well. Use a
/// tunnel between machines.
///
/// Only its user can connect to the file of a unix socket; [`mode`](ListenerBuilder::mode) lets
/// others connect. The listener removes the file when it is dropped, unless another file has taken
/// its place.
///
/// # Process death
///
/// The file of a unix socket stays behind when its process is killed, and has to be removed before
/// its path can be bound again: `bind` fails with `AddrInUse`, as in Python, because it cannot tell
/// a dead owner from one that is about to listen. Abstract names and ports do not have this
/// problem. Clients that are not accepted yet see the end of their connections.
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
    // Dropped in this order: the file goes before the socket that it leads to.
    _file: Option<SocketFile>,
    socket: PollableFd,
    /// What a handshake takes; without, there is none.
    credentials: Option<Arc<Credentials>>,
    address: Address,
}

impl Listener {
    /// Listens at `address` without a key: **every program that can connect is let in**.
    ///
    /// The address is an [`Address`] or what converts into one: `Path::new("/run/app/socket")`, a
    /// `SocketAddr`, `("localhost", 6000)`; a text has to be parsed, `text.parse::<Address>()?`.
    ///
    /// A host can have several addresses. The listener has one of them, the first that can be
    /// bound, and [`address`](Self::address) says which. `localhost` may be `::1` or `127.0.0.1`,
    /// and a client that knows only the other one does not find the listener. Give an address
    /// instead of a name if that matters.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another process listens there, or if the file of a unix socket exists,
    /// whether or not a process has it open. Fails if the address does not belong to this machine,
    /// its host is not found, or the operating system refuses.
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

    /// Sets more than an address and a key.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder { key: None, legacy: true, backlog: 128, mode: 0o600 }
    }

    /// Returns where this listens: with the port or the abstract name that the kernel chose, and
    /// the address that was found for a host.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client to connect, without a limit. Several threads can accept at once.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses, for lack of descriptors for example. The client may
    /// still be waiting.
    pub fn accept(&self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = now(self.accept_by(&Waits::Thread(Deadline::NEVER)))? {
                return Ok(incoming);
            }
        }
    }

    /// Accepts a client if one has connected, without waiting.
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
/// It can go to another thread for its handshake. Dropping it closes the connection.
#[must_use = "dropping it closes the connection"]
pub struct Incoming {
    connection: ByteConnection,
    credentials: Option<Arc<Credentials>>,
}

impl Incoming {
    /// Does the handshake within 10 seconds. If the listener has no key there is none, and this
    /// succeeds at once.
    ///
    /// # Errors
    ///
    /// Fails if the client does not prove in time that it has the listener's key, or does not
    /// accept that the listener has it. The connection is closed then.
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

    /// Returns the address of the client; `None` if it has none, which is usual for clients of unix
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

/// How to listen; see [`Listener::builder`].
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
#[must_use = "nobody listens before `bind`"]
pub struct ListenerBuilder {
    key: Option<AuthKey>,
    legacy: bool,
    backlog: i32,
    mode: u32,
}

impl ListenerBuilder {
    /// Demands that clients have this key. It must not be empty.
    pub fn key(mut self, key: impl Into<AuthKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets whether clients may authenticate by HMAC-MD5, which is all that Python until 3.11
    /// knows; true by default. Python from 3.12 on accepts HMAC-MD5 as well. It is not known to be
    /// broken, but nothing new should rely on it.
    pub fn legacy_digest(mut self, accept: bool) -> Self {
        self.legacy = accept;
        self
    }

    /// Sets how many clients the kernel lets wait until they are accepted; 128 by default. The
    /// kernel has a limit of its own, `net.core.somaxconn`.
    pub fn backlog(mut self, clients: u16) -> Self {
        self.backlog = clients.into();
        self
    }

    /// Sets the mode of the file of a unix path, less the umask; `0o600` by default. Connecting
    /// takes permission to write. Other addresses have no mode.
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
            // From here on the file is removed if anything fails.
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
