//! Waiting for clients, handshakes and messages in tasks.

use std::io;

use mp_core::message_limit;
use mp_core::raw::{Deadline, PollableFd};

use crate::sys::timer;
use crate::waits::Waits;
use crate::{
    AuthenticationError, ByteConnection, HANDSHAKE_TIMEOUT, Incoming, Listener, RecvError, SendError, transfer,
};

/// Waits indefinitely.
const PATIENT: Waits = Waits::Task { alarm: None };

impl Listener {
    /// Waits for a client to connect, on any executor (feature `async`).
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept). Also fails if the thread that waits for all tasks cannot be
    /// started.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_listener::{Address, Client, Listener};
    ///
    /// let listener = Listener::bind(Address::Abstract(Vec::new()))?;
    /// let mut client = Client::connect(listener.address())?;
    /// client.send_bytes(b"hello")?;
    /// pollster::block_on(async {
    ///     // A server would authenticate in another task, so that this client does not delay others.
    ///     let mut server = listener.accept_async().await?.authenticate_async().await?;
    ///     assert_eq!(server.recv_bytes_async().await?, b"hello");
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })
    /// # .unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn accept_async(&self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = self.accept_by(&PATIENT).await? {
                return Ok(incoming);
            }
        }
    }
}

impl Incoming {
    /// Does the handshake within 10 seconds, on any executor (feature `async`).
    ///
    /// Dropping the future closes the connection. So a timeout of the executor can shorten the
    /// deadline.
    ///
    /// # Errors
    ///
    /// As [`authenticate`](Self::authenticate). Also fails if the thread that waits for all tasks
    /// cannot be started.
    pub async fn authenticate_async(self) -> Result<ByteConnection, AuthenticationError> {
        let timer = timer::at(Deadline::after(HANDSHAKE_TIMEOUT)).map_err(AuthenticationError::Io)?;
        self.authenticate_by(&Waits::Task { alarm: Some(PollableFd::new(timer)) }).await
    }
}

impl ByteConnection {
    /// Sends bytes as one message, and waits for room, on any executor (feature `async`).
    ///
    /// Dropping the future in the middle of the message closes the connection.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Io`] if the thread that waits for all
    /// tasks cannot be started.
    pub async fn send_bytes_async(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        transfer::send(self, bytes, &PATIENT).await
    }

    /// Waits for the next message, and receives it, on any executor (feature `async`).
    ///
    /// Dropping the future before the message begins to arrive does no harm. Dropping it in the
    /// middle of the message closes the connection.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Io`] if the thread that waits for all
    /// tasks cannot be started.
    pub async fn recv_bytes_async(&mut self) -> Result<Vec<u8>, RecvError> {
        transfer::receive(self, message_limit(), &PATIENT).await?.ok_or(RecvError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::{Address, Client};

    #[test]
    fn a_silent_client_is_late_at_the_alarm() {
        let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), b"key").unwrap();
        let _silent = Client::connect(listener.address()).unwrap();
        let soon = Duration::from_millis(5);
        let alarm = PollableFd::new(timer::at(Deadline::after(soon)).unwrap());
        let incoming = listener.accept().unwrap();
        let (done, result) = mpsc::channel();
        thread::spawn(move || {
            let waits = Waits::Task { alarm: Some(alarm) };
            done.send(pollster::block_on(incoming.authenticate_by(&waits))).unwrap();
        });
        let late = result.recv_timeout(Duration::from_secs(20)).expect("the alarm comes");
        assert!(matches!(late, Err(AuthenticationError::TimedOut)), "{late:?}");
    }
}
