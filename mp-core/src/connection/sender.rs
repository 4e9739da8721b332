//! The sending end of a pipe.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::SendError;
#[cfg(doc)]
use super::error::SendErrorReason;
use super::raw::Socket;
use super::serialize::received_socket;
use crate::descriptor;
use crate::sys::fd::duplicate;
use crate::sys::poll::Deadline;

/// The sending end of a [`pipe`](super::pipe()).
///
/// Sending takes `&self`, so threads can share a sender. Processes can have duplicates of it, made
/// by [`try_clone`](Self::try_clone) or by encoding a reference. Messages of concurrent senders do
/// not mix. Those of one sender arrive in order.
pub struct Sender<T> {
    pub(super) socket: Arc<Socket>,
    /// A sender consumes values; it holds none.
    values: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self::from_socket(Arc::new(Socket::new(fd)))
    }

    pub(super) fn from_socket(socket: Arc<Socket>) -> Self {
        Self { socket, values: PhantomData }
    }

    /// Duplicates this end, for another thread or process. The receiver is disconnected when all
    /// duplicates are closed.
    ///
    /// # Errors
    ///
    /// Fails if this process has no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        duplicate(self.as_fd()).map(Self::from_fd)
    }

    /// Sends plain bytes as one message, which can be empty, and waits for room. The receiver takes
    /// them with [`recv_bytes`](super::Receiver::recv_bytes).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.socket.send_bytes(bytes).map_err(|reason| SendError { value: (), reason })
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends `value`, and waits until there is room for it.
    ///
    /// The receiver gets duplicates of the descriptors in the value. Sending drops the value, which
    /// closes the originals.
    ///
    /// The value is encoded once, before this waits for anything. A message longer than 200 KiB
    /// also waits while two such messages of this sender are unreceived.
    ///
    /// # Errors
    ///
    /// Gives the value back if every receiver is closed, if the value cannot be encoded or is
    /// longer than [`message_limit`](crate::message_limit), or if descriptors or memory run out.
    /// Nothing was sent then.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_with(value, Deadline::NEVER)
    }

    /// Sends `value` if there is room for it now, and never waits.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendErrorReason::Full`].
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_with(value, Deadline::PASSED)
    }

    /// Sends `value`, and waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendErrorReason::TimedOut`]; nothing was sent then.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_with(value, Deadline::after(timeout))
    }

    /// Sends a copy of `value`, and waits until there is room for it. Descriptors in it are
    /// duplicated.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_ref(&self, value: &T) -> Result<(), SendError<()>> {
        self.socket.send(value, Deadline::NEVER).map_err(|reason| SendError { value: (), reason })
    }

    fn send_with(&self, value: T, deadline: Deadline) -> Result<(), SendError<T>> {
        self.socket.send(&value, deadline).map_err(|reason| SendError { value, reason })
    }
}

/// Writable when a short message can be sent without waiting.
impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("fd", &self.as_fd()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        descriptor::serialize(self.as_fd(), serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        received_socket(deserializer).map(Self::from_fd)
    }
}
