//! Messages of bytes over a stream socket.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mp_core::message_limit;
use mp_core::raw::{self, Deadline, PollableFd, above_standard_streams};

use crate::sys::stream;
use crate::waits::{Waits, now};
use crate::{Address, RecvError, SendError, transfer};

/// A connection to another program, for messages of plain bytes in both directions, over a unix or
/// TCP socket.
///
/// [`Incoming::authenticate`](crate::Incoming::authenticate) and
/// [`Client::connect`](crate::Client::connect) return one. The peer has another `ByteConnection`,
/// or a `Connection` of Python's `multiprocessing.connection`. A Python peer uses `send_bytes` and
/// `recv_bytes`. Its `send` and `recv` are for pickles, which can run code, so this type does not
/// read them. A connected `UnixStream` or `TcpStream` also converts into a connection.
///
/// Messages have boundaries, can be empty, and can be [`message_limit`] bytes long. Unlike
/// [`mp_core::Connection`], it cannot send descriptors.
///
/// **Giving up a message in the middle closes the connection** in both directions, because half a
/// message would mix with the next one. A message is given up by a timeout after a part of it was
/// sent or received, by an error of the operating system, or by dropping the future that sends or
/// receives it. That call and all later ones return [`SendError::Closed`] or [`RecvError::Closed`].
/// A timeout between two messages does no harm. So use a timeout that is long enough for a whole
/// message.
///
/// Sending and receiving take `&mut self`. To send on one thread and receive on another, use
/// [`try_clone`](Self::try_clone).
///
/// Nothing is read ahead, so [`wait`](mp_core::wait()) works: the descriptor is readable when a
/// message has begun to arrive.
///
/// A connection can be an argument of a call, or be sent over a [`pipe`](mp_core::pipe()). So each
/// client can have its own child process. Sending a connection in the middle of a message is an
/// error. After that, only one process may use it.
///
/// # Process death
///
/// If the peer dies between two messages, receiving returns everything that it sent, and then
/// [`RecvError::Disconnected`]. If it dies in the middle of a message, receiving returns
/// [`RecvError::Truncated`], and then `Disconnected`. Sending to a dead peer returns
/// [`SendError::Disconnected`]. If a peer on another machine disappears, for example with its
/// network, only a timeout detects that.
///
/// # Examples
///
/// ```
/// use mp_listener::{Address, Client, Listener};
///
/// let listener = Listener::bind(Address::Abstract(Vec::new()))?;
/// let mut client = Client::connect(listener.address())?;
/// let mut server = listener.accept()?.authenticate()?;
///
/// client.send_bytes(b"hello")?;
/// client.send_bytes(b"")?;
/// assert_eq!(server.recv_bytes()?, b"hello");
/// assert_eq!(server.recv_bytes()?, b"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ByteConnection {
    pub(crate) socket: PollableFd,
    /// How many bytes of a refused message have not arrived yet.
    pub(crate) skip: u64,
    /// Whether a message was given up in the middle.
    pub(crate) is_closed: bool,
}

impl ByteConnection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: PollableFd::new(socket), skip: 0, is_closed: false }
    }

    /// Sends bytes as one message, which can be empty, and waits for room.
    ///
    /// # Errors
    ///
    /// Fails if the peer is closed, if the message is longer than [`message_limit`], or if the
    /// operating system fails.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        now(transfer::send(self, bytes, &Waits::Thread(Deadline::NEVER)))
    }

    /// Sends bytes as one message, and waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes). [`SendError::TimedOut`] if nothing of the message was
    /// sent before the timeout. [`SendError::Closed`] if a part of it was sent; the connection is
    /// closed then.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        now(transfer::send(self, bytes, &Waits::Thread(Deadline::after(timeout))))
    }

    /// Waits for the next message, and receives it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when the peer is closed and every message was received. After
    /// [`RecvError::TooLarge`] the next call receives the message after it.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv(message_limit(), &Waits::Thread(Deadline::NEVER))?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next message, and waits for `timeout` at most; `None` if it has not begun to
    /// arrive by then.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Closed`] if only a part of the message
    /// has arrived before the timeout.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, RecvError> {
        self.recv(message_limit(), &Waits::Thread(Deadline::after(timeout)))
    }

    /// Waits for the next message, receives it into the beginning of `buffer`, and returns its
    /// length.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::BufferTooShort`], which holds the
    /// message.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let waits = Waits::Thread(Deadline::NEVER);
        now(transfer::receive_into(self, buffer, message_limit(), &waits))?.ok_or(RecvError::Disconnected)
    }

    /// Waits until a message has begun to arrive or the peer is closed. `None` waits indefinitely.
    ///
    /// Returns false if neither happened in time.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        raw::readable(self.as_fd(), Deadline::from_timeout(timeout))
    }

    /// Makes a second connection of the same socket, to send on one thread and receive on another.
    ///
    /// Use each direction only through one of the two connections: two receiving threads would each
    /// get parts of messages, and two sending threads would mix theirs. If one gives up a message
    /// in the middle, both are closed.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_listener::{Address, Client, Listener};
    ///
    /// let listener = Listener::bind(Address::Abstract(Vec::new()))?;
    /// let mut client = Client::connect(listener.address())?;
    /// let mut receiver = listener.accept()?.authenticate()?;
    /// let mut sender = receiver.try_clone()?;
    ///
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| assert_eq!(receiver.recv_bytes().unwrap(), b"question"));
    ///     sender.send_bytes(b"news")?;
    ///     client.send_bytes(b"question")?;
    ///     assert_eq!(client.recv_bytes()?, b"news");
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })
    /// # .unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = above_standard_streams(self.as_fd().try_clone_to_owned()?)?;
        Ok(Self { socket: PollableFd::new(socket), skip: self.skip, is_closed: self.is_closed })
    }

    /// Ends one direction or both, for every duplicate of this connection in every process. The
    /// peer and waiting threads see the end.
    ///
    /// # Errors
    ///
    /// Fails if the connection has already ended.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        stream::shutdown(self.as_fd(), how)
    }

    /// Returns the address of the peer; `None` if it has none, which is usual for clients of unix
    /// sockets.
    ///
    /// # Errors
    ///
    /// Fails if the connection has ended.
    pub fn peer_address(&self) -> io::Result<Option<Address>> {
        Ok(stream::peer_address(self.as_fd())?.and_then(Address::from_kernel))
    }

    fn recv(&mut self, limit: u64, waits: &Waits) -> Result<Option<Vec<u8>>, RecvError> {
        now(transfer::receive(self, limit, waits))
    }
}

/// Takes over a connected socket.
impl From<UnixStream> for ByteConnection {
    fn from(stream: UnixStream) -> Self {
        Self::new(stream.into())
    }
}

/// Takes over a connected socket.
impl From<TcpStream> for ByteConnection {
    fn from(stream: TcpStream) -> Self {
        Self::new(stream.into())
    }
}

/// Readable when a message has begun to arrive or the peer is closed.
impl AsFd for ByteConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for ByteConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteConnection").field("fd", &self.as_fd()).finish_non_exhaustive()
    }
}
