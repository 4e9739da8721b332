//! Messages of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ByteConnection, RecvError, SendError};

impl ByteConnection {
    /// Sends a value as a message of JSON, and waits for room. In Python:
    /// `json.loads(connection.recv_bytes())`.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Json`] for a value that JSON cannot
    /// express, such as a map whose keys are not strings.
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
    /// client.send_json(&("add", [1, 2]))?;
    /// let request: (String, Vec<u64>) = server.recv_json()?;
    /// assert_eq!(request, ("add".to_owned(), vec![1, 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.send_bytes(&serde_json::to_vec(value).map_err(SendError::Json)?)
    }

    /// Waits for a message of JSON, and receives it. In Python:
    /// `connection.send_bytes(json.dumps(value).encode())`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Json`] if the message is not JSON or
    /// not a `T`. The next call then receives the message after it.
    pub fn recv_json<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        serde_json::from_slice(&self.recv_bytes()?).map_err(RecvError::Json)
    }
}
