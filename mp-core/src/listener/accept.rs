//! Listening and accepting.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::file::SocketFile;
use super::handshake::Credentials;
use super::waiting::{Door, Waiting};
use super::{AcceptError, Address, AuthKey, ByteConnection, HANDSHAKE_TIMEOUT};
use crate::sys::events::Events;
use crate::sys::poll::{self, Deadline};
use crate::sys::stream;
#[cfg(feature = "async")]
use crate::watched::Watched;

/// Waits at an [`Address`] for programs that connect, in Rust or in Python.
///
/// With a key, [`accept`](Self::accept) gives only connections whose peer has shown that it has the same key, and to whom this side has
/// shown the same. **Without a key nothing is asked: whoever can connect is let in**, which over TCP and for abstract names is
/// everyone. Nothing is encrypted in either case: who can read or change what is on the wire can do so after the handshake as
/// well. Beyond the machine itself, use a tunnel.
///
/// Handshakes go on side by side, so a client that dawdles or sends nonsense keeps no other from being accepted; each has 10 seconds
/// unless the [`builder`](Self::builder) says otherwise, and the listener makes progress with them while a thread is in `accept` or
/// [`accept_timeout`](Self::accept_timeout). 64 clients at most are in their handshakes, and 128 more wait in the kernel's queue.
///
/// The file of a unix socket can be connected to by its user alone ([`mode`](ListenerBuilder::mode) lets others). It is removed when the
/// listener is dropped, unless another file has taken its place.
///
/// # Process death
///
/// The file of a unix socket stays behind when its process is killed, and has to be removed before its path can be bound again:
/// `bind` fails with `AddrInUse`, as in Python, because it cannot tell a dead owner from one that is about to listen. Abstract
/// names and ports do not have this trouble. Clients that are not accepted yet see the end of their connections.
///
/// # Examples
///
/// ```
/// use mp_core::{Address, AuthKey, Client, Listener};
///
/// let key = AuthKey::random()?;
/// let listener = Listener::bind_with_key(Address::Tcp(([127, 0, 0, 1], 0).into()), &key)?;
/// let address = listener.address().clone(); // with the port that the kernel chose
///
/// let client = std::thread::spawn(move || -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(Client::connect_with_key(address, &key)?.recv_bytes()?)
/// });
/// listener.accept()?.send_bytes(b"welcome")?;
/// assert_eq!(client.join().unwrap().unwrap(), b"welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    // Dropped in this order: the file goes before the socket that it leads to.
    _file: Option<SocketFile>,
    waiting: Mutex<Waiting>,
    door: Door,
    address: Address,
}

impl Listener {
    /// Listens at `address` without a key: **every program that can connect is accepted**.
    ///
    /// The address is an [`Address`] or what converts into one: `Path::new("/run/app/socket")`, a `SocketAddr`, `("localhost", 6000)`; of a
    /// text, `text.parse::<Address>()?`.
    ///
    /// A host that has several addresses is listened for at one only, the first that can be bound: [`address`](Self::address) tells
    /// which. `localhost` may be `::1` or `127.0.0.1`, and then a client that knows only the other finds nobody. Give an address instead
    /// of a name if that matters.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if someone listens there, or if the file of a unix socket is there, whether or not someone has it. Fails if the
    /// address is none of this machine, its host is not found, or the operating system refuses.
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
        ListenerBuilder { key: None, legacy: true, handshake_timeout: HANDSHAKE_TIMEOUT, backlog: 128, mode: 0o600 }
    }

    /// Returns where this listens: with the port or the abstract name that the kernel chose, and the address that was found for a host.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client that has come through the handshake.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Authentication`] if one has not; call again for the next.
    pub fn accept(&self) -> Result<ByteConnection, AcceptError> {
        loop {
            if let Some(connection) = self.accept_by(Deadline::NEVER)? {
                return Ok(connection);
            }
        }
    }

    /// Waits for a client that has come through the handshake, for `timeout` at most; `None` if none has.
    ///
    /// What clients have done of their handshakes by then is not lost. Zero does what can be done without waiting.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<ByteConnection>, AcceptError> {
        self.accept_by(Deadline::after(timeout))
    }

    #[cfg(feature = "async")]
    pub(super) fn events(&self) -> &Watched {
        &self.door.events.epoll
    }

    fn accept_by(&self, deadline: Deadline) -> Result<Option<ByteConnection>, AcceptError> {
        loop {
            // Nothing in there waits. If it panicked, what it says of itself would hold again after the next step.
            let step = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).step(&self.door);
            if let Some(result) = step {
                return result.map(Some);
            }
            // Also if there is always something to do, without anybody coming through.
            if deadline.left().is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            poll::readable(self.as_fd(), deadline).map_err(AcceptError::Io)?;
        }
    }
}

/// Readable when a client has connected, or has gone on with its handshake, or is late with it: then call
/// [`accept_timeout`](Listener::accept_timeout) with zero.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.events.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// How to listen; see [`Listener::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_core::{Address, Listener};
///
/// let listener = Listener::builder()
///     .key(b"secret password")
///     .legacy_digest(false)
///     .handshake_timeout(Duration::from_secs(2))
///     .bind(Address::Abstract(Vec::new()))?;
/// assert!(listener.accept_timeout(Duration::ZERO)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nobody listens before `bind`"]
pub struct ListenerBuilder {
    key: Option<AuthKey>,
    legacy: bool,
    handshake_timeout: Duration,
    backlog: i32,
    mode: u32,
}

impl ListenerBuilder {
    /// Demands that clients have this key. It must not be empty.
    pub fn key(mut self, key: impl Into<AuthKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Whether clients may authenticate by HMAC-MD5, which is all that Python until 3.11 knows. They may unless this is false; Python
    /// from 3.12 on accepts them as well. HMAC-MD5 is not known to be broken, but nothing new should rest on it.
    pub fn legacy_digest(mut self, accept: bool) -> Self {
        self.legacy = accept;
        self
    }

    /// How long the handshake with a client may take, in all; 10 seconds unless this is called, and `Duration::MAX` is for ever.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How many clients the kernel lets wait until they are accepted; 128 unless this is called. The kernel has a limit of its own,
    /// `net.core.somaxconn`.
    pub fn backlog(mut self, clients: u16) -> Self {
        self.backlog = clients.into();
        self
    }

    /// The permissions of the file of a unix path, less the umask; `0o600` unless this is called. Connecting takes permission to write.
    /// Other addresses have none.
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
        let credentials = Credentials::new(self.key, self.legacy)?;
        let events = Events::new()?;
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for resolved in address.resolve()? {
            let listening = match stream::bind(&resolved, self.mode) {
                Ok(listening) => listening,
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
            stream::listen(listening.as_fd(), self.backlog)?;
            let bound = Address::from_kernel(stream::local_address(listening.as_fd())?);
            let door = Door { listening, events, credentials, patience: self.handshake_timeout };
            let waiting = Mutex::new(Waiting::new(&door)?);
            return Ok(Listener { _file: file, waiting, door, address: bound.unwrap_or(address) });
        }
        Err(refused)
    }
}
