//! Messages of JSON, which every language reads.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ByteConnection, RecvError, SendError};

impl ByteConnection {
    /// Sends a value as a message of JSON, waiting for room without a limit. In Python:
    /// `json.loads(connection.recv_bytes())`.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Json`] for what JSON cannot express,
    /// such as a map whose keys are not strings.
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

    /// Receives a message of JSON, waiting for it without a limit. In Python:
    /// `connection.send_bytes(json.dumps(value).encode())`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Json`] for what is not JSON or not a
    /// `T`; the next call continues with the message after it.
    pub fn recv_json<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        serde_json::from_slice(&self.recv_bytes()?).map_err(RecvError::Json)
    }
}
