//! The receiving end of a pipe.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::RecvError;
use super::raw::Socket;
use super::serialize::received_socket;
use crate::descriptor;
use crate::sys::fd::duplicate;
use crate::sys::poll::Deadline;

/// The receiving end of a [`pipe`](super::pipe()).
///
/// Receiving takes `&self`, so threads can share a receiver. Processes can have duplicates of it.
/// Each message goes to one receiver.
pub struct Receiver<T> {
    pub(super) socket: Arc<Socket>,
    /// A receiver produces values; it holds none.
    values: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self::from_socket(Arc::new(Socket::new(fd)))
    }

    pub(super) fn from_socket(socket: Arc<Socket>) -> Self {
        Self { socket, values: PhantomData }
    }

    pub(crate) fn peer_left_unread(&self) -> bool {
        self.socket.peer_left_unread()
    }

    /// Duplicates this end, for another thread or process. Senders are disconnected when all
    /// duplicates are closed.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        duplicate(self.as_fd()).map(Self::from_fd)
    }

    /// Waits until a message has arrived or every sender is closed. `None` waits indefinitely.
    ///
    /// Returns false if neither happened in time. A message that has arrived is complete. If there
    /// are other receivers, one of them may take it first.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.socket.poll(timeout)
    }

    /// Waits for a message that was sent with [`send_bytes`](super::Sender::send_bytes), and
    /// receives it.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.socket.recv_bytes()
    }

    /// Waits for a message of plain bytes, receives it into the beginning of `buffer`, and returns
    /// its length.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::BufferTooShort`], which holds the message.
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.socket.recv_bytes_into(buffer)
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Waits for the next message, and receives it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when every sender is closed and every message was received. The
    /// other errors concern one message, and the next call receives the one after it.
    pub fn recv(&self) -> Result<T, RecvError> {
        // Without a deadline there is always a message or an error.
        self.socket.recv(Deadline::NEVER)?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next message if there is one now, and never waits.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<T>, RecvError> {
        self.socket.recv(Deadline::PASSED)
    }

    /// Receives the next message, and waits for `timeout` at most; `None` if none arrived.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<T>, RecvError> {
        self.socket.recv(Deadline::after(timeout))
    }

    /// Iterates over the messages, waiting for each, until every sender is closed.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

/// Iterates over the messages of a [`Receiver`]. It ends when every sender is closed.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Readable when a message has arrived or every sender is closed: nothing is read ahead. See
/// [`poll`](Receiver::poll).
impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("fd", &self.as_fd()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        descriptor::serialize(self.as_fd(), serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        received_socket(deserializer).map(Self::from_fd)
    }
}
