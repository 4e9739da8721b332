//! Messages of JSON, which every language reads.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ByteConnection;
use crate::codec::{DecodeError, EncodeError};
use crate::connection::{RecvError, SendError, SendErrorReason};

impl ByteConnection {
    /// Sends a value as a message of JSON, waiting for room. In Python: `json.loads(connection.recv_bytes())`.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendErrorReason::Encode`] for what is not to be had in JSON, such as a map whose keys
    /// are no strings.
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
    /// client.send_json(&("add", [1, 2]))?;
    /// let request: (String, Vec<u64>) = server.recv_json()?;
    /// assert_eq!(request, ("add".to_owned(), vec![1, 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError<()>> {
        let bytes = serde_json::to_vec(value).map_err(|error| SendError {
            value: (),
            reason: SendErrorReason::Encode(EncodeError::new(error.to_string())),
        })?;
        self.send_bytes(&bytes)
    }

    /// Receives a message of JSON, waiting for it. In Python: `connection.send_bytes(json.dumps(value).encode())`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Decode`] for what is no JSON or no `T`; the next call goes on with the
    /// message after it.
    pub fn recv_json<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        let bytes = self.recv_bytes()?;
        serde_json::from_slice(&bytes).map_err(|error| RecvError::Decode(DecodeError::new(error.to_string())))
    }
}
