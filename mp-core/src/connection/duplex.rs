//! Both ways at once.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{RecvError, SendError};
use super::raw::Socket;
use super::receiver::Receiver;
use super::sender::Sender;
use super::serialize::received_socket;
use crate::descriptor;
use crate::sys::{fd::duplicate, socket};

/// Makes a two-way channel: each end sends what the other receives.
///
/// It behaves as two [`pipe`](super::pipe())s in opposite directions, with one descriptor an end.
///
/// # Errors
///
/// Fails if this process or the system has no descriptors left.
///
/// # Process death
///
/// If the peer is closed or dies, this end receives what the peer had sent, then
/// [`RecvError::Disconnected`]. Sending fails with
/// [`SendErrorReason::Disconnected`](super::SendErrorReason::Disconnected).
///
/// # Examples
///
/// ```
/// use mp_core::{Connection, duplex, process_fn};
///
/// #[process_fn]
/// fn square(connection: Connection<u64, u32>) {
///     for number in connection.iter() {
///         let number = u64::from(number.unwrap());
///         connection.send(number * number).unwrap();
///     }
/// }
///
/// let (mine, theirs) = duplex()?;
/// let child = square::spawn(theirs)?;
/// mine.send(12u32)?;
/// assert_eq!(mine.recv()?, 144u64);
/// drop(mine);
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn duplex<A, B>() -> io::Result<(Connection<A, B>, Connection<B, A>)> {
    let (a, b) = socket::pair()?;
    Ok((Connection::from_fd(a), Connection::from_fd(b)))
}

/// One end of a [`duplex`]: it sends `Tx` and receives `Rx`.
///
/// Its methods are those of [`Sender`] and [`Receiver`].
pub struct Connection<Tx, Rx> {
    pub(super) sender: Sender<Tx>,
    pub(super) receiver: Receiver<Rx>,
}

impl<Tx, Rx> Connection<Tx, Rx> {
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        let socket = Arc::new(Socket::new(fd));
        Self { sender: Sender::from_socket(Arc::clone(&socket)), receiver: Receiver::from_socket(socket) }
    }

    /// The two directions, which share the descriptor.
    pub(crate) fn split(self) -> (Sender<Tx>, Receiver<Rx>) {
        (self.sender, self.receiver)
    }

    /// Duplicates this end, for another thread or process. The peer is disconnected when all
    /// duplicates are closed.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        duplicate(self.as_fd()).map(Self::from_fd)
    }

    /// Splits this end into its two directions. The peer is disconnected when both halves are
    /// closed.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor; the connection is closed then.
    pub fn into_split(self) -> io::Result<(Sender<Tx>, Receiver<Rx>)> {
        // Each half has a descriptor of its own, so that closing one does not wait for the other.
        let receiver = duplicate(self.as_fd())?;
        Ok((self.sender, Receiver::from_fd(receiver)))
    }

    /// Waits until a message has arrived or the peer is closed. See [`Receiver::poll`].
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.receiver.poll(timeout)
    }

    /// Sends plain bytes as one message. See [`Sender::send_bytes`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.sender.send_bytes(bytes)
    }

    /// Receives a message of plain bytes. See [`Receiver::recv_bytes`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// Receives a message of plain bytes into the beginning of `buffer`. See
    /// [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::BufferTooShort`], which holds the message.
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buffer)
    }
}

impl<Tx: Serialize, Rx> Connection<Tx, Rx> {
    /// Sends `value`, and waits until there is room for it. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// Gives the value back if the peer is closed, or if the value cannot be encoded or sent.
    pub fn send(&self, value: Tx) -> Result<(), SendError<Tx>> {
        self.sender.send(value)
    }

    /// Sends `value` if there is room for it now. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendErrorReason::Full`](super::SendErrorReason::Full).
    pub fn try_send(&self, value: Tx) -> Result<(), SendError<Tx>> {
        self.sender.try_send(value)
    }

    /// Sends `value`, and waits for room for `timeout` at most. See [`Sender::send_timeout`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and
    /// [`SendErrorReason::TimedOut`](super::SendErrorReason::TimedOut).
    pub fn send_timeout(&self, value: Tx, timeout: Duration) -> Result<(), SendError<Tx>> {
        self.sender.send_timeout(value, timeout)
    }

    /// Sends a copy of `value`, and waits until there is room for it. See [`Sender::send_ref`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_ref(&self, value: &Tx) -> Result<(), SendError<()>> {
        self.sender.send_ref(value)
    }
}

impl<Tx, Rx: DeserializeOwned> Connection<Tx, Rx> {
    /// Waits for the next message, and receives it. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when the peer is closed and every message was received. The
    /// other errors concern one message.
    pub fn recv(&self) -> Result<Rx, RecvError> {
        self.receiver.recv()
    }

    /// Receives the next message if there is one now. See [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Rx>, RecvError> {
        self.receiver.try_recv()
    }

    /// Receives the next message, and waits for `timeout` at most. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Rx>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Iterates over the messages, waiting for each, until the peer is closed.
    pub fn iter(&self) -> Messages<'_, Tx, Rx> {
        Messages { connection: self }
    }
}

/// Iterates over the messages that a [`Connection`] receives. It ends when the peer is closed.
#[derive(Debug)]
pub struct Messages<'a, Tx, Rx> {
    connection: &'a Connection<Tx, Rx>,
}

impl<Tx, Rx: DeserializeOwned> Iterator for Messages<'_, Tx, Rx> {
    type Item = Result<Rx, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.connection.recv() {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        }
    }
}

impl<'a, Tx, Rx: DeserializeOwned> IntoIterator for &'a Connection<Tx, Rx> {
    type Item = Result<Rx, RecvError>;
    type IntoIter = Messages<'a, Tx, Rx>;

    fn into_iter(self) -> Messages<'a, Tx, Rx> {
        self.iter()
    }
}

/// Readable when a message has arrived or the peer is closed: nothing is read ahead. See
/// [`Receiver::poll`].
impl<Tx, Rx> AsFd for Connection<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}

impl<Tx, Rx> fmt::Debug for Connection<Tx, Rx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("fd", &self.as_fd()).finish_non_exhaustive()
    }
}

impl<Tx, Rx> Serialize for Connection<Tx, Rx> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        descriptor::serialize(self.as_fd(), serializer)
    }
}

impl<'de, Tx, Rx> Deserialize<'de> for Connection<Tx, Rx> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        received_socket(deserializer).map(Self::from_fd)
    }
}
