//! Waiting for clients and their messages without a thread.

use std::time::Duration;

use super::{AcceptError, ByteConnection, Listener};
use crate::connection::RecvError;

impl Listener {
    /// Waits for a client that has come through the handshake, without a thread and on any executor (feature `async`).
    ///
    /// Handshakes make progress while some future of this is polled, or a thread is in [`accept`](Self::accept). Dropping the future
    /// loses nothing of what clients have done of theirs.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept); also [`AcceptError::Io`] if the thread that waits for all tasks cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{Address, Client, Listener};
    ///
    /// let listener = Listener::bind(Address::Abstract(Vec::new()))?;
    /// let client = Client::connect(listener.address())?;
    /// client.send_bytes(b"hello")?;
    /// pollster::block_on(async {
    ///     let server = listener.accept_async().await?;
    ///     assert_eq!(server.recv_bytes_async().await?, b"hello");
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })
    /// # .unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn accept_async(&self) -> Result<ByteConnection, AcceptError> {
        loop {
            if let Some(connection) = self.accept_timeout(Duration::ZERO)? {
                return Ok(connection);
            }
            self.events().readable().await.map_err(AcceptError::Io)?;
        }
    }
}

impl ByteConnection {
    /// Receives the next message; the future waits for it without a thread, on any executor (feature `async`).
    ///
    /// Dropping the future loses nothing: what has arrived of a message is kept for the next call.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes); also [`RecvError::Io`] if the thread that waits for all tasks cannot be started.
    pub async fn recv_bytes_async(&self) -> Result<Vec<u8>, RecvError> {
        loop {
            if let Some(message) = self.try_recv_bytes()? {
                return Ok(message);
            }
            self.watched().readable().await.map_err(RecvError::Io)?;
        }
    }
}
