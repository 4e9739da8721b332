//! Messages of bytes over a stream socket.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Address;
use super::framing::{Frame, Incoming, Interruption, is_end};
use super::slot::{Slot, Taken};
use crate::codec::{EncodeError, message_limit};
use crate::connection::{RecvError, SendError, SendErrorReason};
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::Blocking;
use crate::sys::stream;
use crate::watched::Watched;

/// A connection to a program that need not be of this library: both ways, messages of plain bytes, over a unix or TCP socket.
///
/// [`Listener::accept`](super::Listener::accept) and [`Client::connect`](super::Client::connect) give one. The other end is another of
/// these, or what Python's `multiprocessing.connection` calls a `Connection`, there to be used with `send_bytes` and `recv_bytes`; its
/// `send` and `recv` are for pickles, which are code, and are not read here. A connected `UnixStream` or `TcpStream` converts into one
/// as well.
///
/// Messages have boundaries, can be empty, and can be [`message_limit`] bytes long. All methods take `&self`; of several threads that
/// send, or receive, each sends or receives whole messages, one after another. Unlike [`Connection`](crate::Connection) it carries no
/// handles, neither over TCP nor over unix sockets.
///
/// It can be an argument of a call itself, or be sent over a [`pipe`](crate::pipe()): a child for each client. It cannot while
/// part of a message is in it, and only one process may go on using it.
///
/// **Nothing is lost by a timeout.** What has arrived of a message is kept, and the next call goes on with it. What could not be sent
/// of a message that was begun is kept as well ([`SendErrorReason::Unfinished`]), also if it was the operating system that refused the
/// rest. Nothing is read ahead of a message, so
/// [`wait`](crate::wait()) works: the descriptor is readable when something has arrived, which may be part of a message. So follow
/// it up with [`try_recv_bytes`](Self::try_recv_bytes).
///
/// # Process death
///
/// A peer that dies between two messages is [`RecvError::Disconnected`], after all that it had sent; in the middle of one it is
/// [`RecvError::Truncated`], and then `Disconnected`. Sending to it is [`SendErrorReason::Disconnected`]. A peer on another
/// machine can vanish without a word, with its network for example; only a timeout tells.
///
/// # Examples
///
/// ```
/// use mp_core::{Address, Client, Listener};
///
/// let listener = Listener::bind(Address::Abstract(Vec::new()))?;
/// let client = Client::connect(listener.address())?;
/// let server = listener.accept()?;
///
/// client.send_bytes(b"hello")?;
/// client.send_bytes(b"")?;
/// assert_eq!(server.recv_bytes()?, b"hello");
/// assert_eq!(server.recv_bytes()?, b"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ByteConnection {
    socket: Watched,
    incoming: Slot<Incoming>,
    /// What remains of a message that was begun: it goes before the next, or nothing does.
    rest: Slot<Vec<u8>>,
}

impl ByteConnection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: Watched::new(socket), incoming: Slot::new(Incoming::new()), rest: Slot::new(Vec::new()) }
    }

    /// Sends bytes as one message, also an empty one, waiting for room.
    ///
    /// # Errors
    ///
    /// Fails if the peer is gone, or the message is longer than [`message_limit`]. [`SendErrorReason::Io`] if the operating system
    /// refused before anything of it was sent, and [`SendErrorReason::Unfinished`] if it did in the middle.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.send(bytes, Deadline::NEVER, SendErrorReason::TimedOut)
    }

    /// Sends bytes as one message if there is room now. It never sleeps.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes); [`SendErrorReason::Full`] if there is no room for any of it, and
    /// [`SendErrorReason::Unfinished`] if there was for a part.
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.send(bytes, Deadline::PASSED, SendErrorReason::Full)
    }

    /// Sends bytes as one message, waiting for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes); [`SendErrorReason::TimedOut`] if there was no room for any of it, and
    /// [`SendErrorReason::Unfinished`] if there was for a part.
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError<()>> {
        self.send(bytes, Deadline::after(timeout), SendErrorReason::TimedOut)
    }

    /// Sends the rest of a message that a deadline or an error left unfinished, if there is one; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`SendErrorReason::Unfinished`] if there is more to send, and as [`send_bytes`](Self::send_bytes). What is left is kept, whatever
    /// the error, unless the peer is gone.
    pub fn flush(&self, timeout: Option<Duration>) -> Result<(), SendError<()>> {
        let deadline = Deadline::from_timeout(timeout);
        let unfinished = || SendError { value: (), reason: SendErrorReason::Unfinished };
        let mut rest = self.rest.take(deadline).ok_or_else(unfinished)?;
        if self.send_rest(&mut rest, deadline)? { Ok(()) } else { Err(unfinished()) }
    }

    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] once the peer is gone and everything was received. After [`RecvError::TooLarge`] the next call goes
    /// on with the message after it; after [`RecvError::Malformed`] there is none to be found any more.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv(Deadline::NEVER, message_limit())?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next message if the whole of it is here now, without sleeping.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn try_recv_bytes(&self) -> Result<Option<Vec<u8>>, RecvError> {
        self.recv(Deadline::PASSED, message_limit())
    }

    /// Receives the next message, waiting for `timeout` at most; `None` if it was not here whole in time.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Option<Vec<u8>>, RecvError> {
        self.recv(Deadline::after(timeout), message_limit())
    }

    /// Receives the next message into the beginning of `buffer`, waiting for it, and returns its length.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::BufferTooShort`], which holds the message.
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let mut incoming = self.receive(Deadline::NEVER, message_limit())?.ok_or(RecvError::Disconnected)?;
        let length = incoming.body().len();
        let Some(place) = buffer.get_mut(..length) else {
            return Err(RecvError::BufferTooShort(incoming.take_body()));
        };
        place.copy_from_slice(incoming.body());
        incoming.clear();
        Ok(length)
    }

    /// Waits until something has arrived, or the peer is gone; `None` waits for ever.
    ///
    /// Returns false if neither happened in time. True does not promise a whole message: see
    /// [`try_recv_bytes`](Self::try_recv_bytes).
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses to wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        poll::readable(self.as_fd(), Deadline::from_timeout(timeout))
    }

    /// Ends one direction, or both, for everyone who has this connection: the peer sees the end, and threads that wait here do too.
    ///
    /// # Errors
    ///
    /// Fails if the connection has ended already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        stream::shutdown(self.as_fd(), how)
    }

    /// Returns the address of the peer; `None` if it has none, as the clients of unix sockets usually have.
    ///
    /// # Errors
    ///
    /// Fails if the connection has ended.
    pub fn peer_address(&self) -> io::Result<Option<Address>> {
        Ok(stream::peer_address(self.as_fd())?.and_then(Address::from_kernel))
    }

    #[cfg(feature = "async")]
    pub(super) fn watched(&self) -> &Watched {
        &self.socket
    }

    /// Sends a message of a handshake, too.
    pub(super) fn send(&self, bytes: &[u8], deadline: Deadline, missed: SendErrorReason) -> Result<(), SendError<()>> {
        let failed = |reason| SendError { value: (), reason };
        let limit = message_limit();
        if bytes.len() as u64 > limit {
            return Err(failed(SendErrorReason::Encode(EncodeError::too_large(limit))));
        }
        let Some(mut rest) = self.rest.take(deadline) else { return Err(failed(missed)) };
        if !self.send_rest(&mut rest, deadline)? {
            return Err(failed(missed));
        }
        let mut frame = Frame::new(bytes);
        let done = self.send_frame(&mut frame, deadline);
        match done {
            Ok(true) => return Ok(()),
            Err(error) if frame.sent() == 0 || is_final(&error) => return Err(error),
            Ok(false) if frame.sent() == 0 => return Err(failed(missed)),
            _ => {}
        }
        // Whatever else went wrong, the peer waits for the rest, and would take the next message for it.
        *rest = frame.to_rest();
        Err(failed(SendErrorReason::Unfinished))
    }

    /// Sends what is left of an earlier message; false is the deadline.
    fn send_rest(&self, rest: &mut Vec<u8>, deadline: Deadline) -> Result<bool, SendError<()>> {
        if rest.is_empty() {
            return Ok(true);
        }
        let mut frame = Frame::rest(rest);
        let done = self.send_frame(&mut frame, deadline);
        let sent = frame.sent();
        let is_over = done.as_ref().map_or_else(is_final, |done| *done);
        if is_over {
            *rest = Vec::new();
        } else {
            drop(rest.drain(..sent));
        }
        done
    }

    /// Sends what is left of a message; false is the deadline.
    fn send_frame(&self, frame: &mut Frame<'_>, deadline: Deadline) -> Result<bool, SendError<()>> {
        let failed = |error: io::Error| {
            let reason = if is_end(&error) { SendErrorReason::Disconnected } else { SendErrorReason::Io(error) };
            SendError { value: (), reason }
        };
        loop {
            match frame.send(self.as_fd(), blocking(deadline)) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !poll::writable(self.as_fd(), deadline).map_err(failed)? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Receives a message of `limit` bytes at most; `None` is the deadline.
    pub(super) fn recv(&self, deadline: Deadline, limit: u64) -> Result<Option<Vec<u8>>, RecvError> {
        Ok(self.receive(deadline, limit)?.map(|mut incoming| incoming.take_body()))
    }

    fn receive(&self, deadline: Deadline, limit: u64) -> Result<Option<Taken<'_, Incoming>>, RecvError> {
        let Some(mut incoming) = self.incoming.take(deadline) else { return Ok(None) };
        loop {
            match incoming.read(self.as_fd(), limit, blocking(deadline)) {
                Ok(()) => return Ok(Some(incoming)),
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::WouldBlock) => {
                    if !poll::readable(self.as_fd(), deadline).map_err(RecvError::Io)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Tells whether nothing of a message is in here, neither of one that arrives nor of one that is sent.
    pub(super) fn is_at_boundary(&self) -> bool {
        let incoming = self.incoming.take(Deadline::PASSED).is_some_and(|incoming| incoming.is_at_boundary());
        incoming && self.rest.take(Deadline::PASSED).is_some_and(|rest| rest.is_empty())
    }
}

/// Tells whether nothing can be sent any more.
fn is_final(error: &SendError<()>) -> bool {
    matches!(error.reason, SendErrorReason::Disconnected)
}

/// Without a deadline the kernel does the waiting, unless someone has made the socket non-blocking.
fn blocking(deadline: Deadline) -> Blocking {
    if deadline.left().is_none() { Blocking::Yes } else { Blocking::No }
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

/// Readable when something has arrived, at least part of a message, or the peer is gone.
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
