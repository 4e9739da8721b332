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
use super::travel::received_socket;
use crate::handle;
use crate::sys::fd::duplicate;
use crate::sys::poll::Deadline;

/// The receiving end of a [`pipe`](super::pipe()).
///
/// Receiving takes `&self`: threads may share one, and processes may hold duplicates. Each message goes to one of them.
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

    /// Duplicates this end, for another thread or process. Senders see the end of it when all duplicates are gone.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        duplicate(self.as_fd()).map(Self::from_fd)
    }

    /// Waits until a message, or the end, can be received without waiting; `None` waits for ever.
    ///
    /// Returns false if neither came in time. With other receivers about, one of them may be faster. A message longer than 256 KiB may
    /// be announced before it is complete: [`recv`](Self::recv) then waits for its rest, [`try_recv`](Self::try_recv) finds nothing yet.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses to wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.socket.poll(timeout)
    }

    /// Receives a message that was sent with [`send_bytes`](super::Sender::send_bytes), waiting for it.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.socket.recv_bytes()
    }

    /// Receives a message of plain bytes into the beginning of `buffer`, waiting for it, and returns its length.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::BufferTooShort`], which holds the message.
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.socket.recv_bytes_into(buffer)
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message, waiting for it.
    ///
    /// A message longer than 256 KiB may arrive while its sender encodes it. If it does not get on for some time while others wait behind
    /// it, they come first.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] once every sender is gone and everything was received; the other errors concern one message, and
    /// the next call goes on with the one after it.
    pub fn recv(&self) -> Result<T, RecvError> {
        // Without a deadline there is always a message or an error.
        self.socket.recv(Deadline::NEVER)?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next message if there is one now, without sleeping.
    ///
    /// A message longer than 256 KiB that is still being sent is not there until it is there as a whole.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<T>, RecvError> {
        self.socket.recv(Deadline::PASSED)
    }

    /// Receives the next message, waiting for `timeout` at most; `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<T>, RecvError> {
        self.socket.recv(Deadline::after(timeout))
    }

    /// Iterates over messages until every sender is gone, waiting for each.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

/// Iterates over the messages of a [`Receiver`]; it ends when every sender is gone.
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

/// Readable when a message, or the end, can be received: nothing is ever read ahead. See [`poll`](Receiver::poll).
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
        handle::serialize(self.as_fd(), serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        received_socket(deserializer).map(Self::from_fd)
    }
}
