//! Sending connections to other processes.

use std::os::fd::{AsFd, OwnedFd};

use mp_core::fd;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::ByteConnection;
use crate::sys::stream;

impl Serialize for ByteConnection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.skip > 0 || self.is_closed {
            return Err(ser::Error::custom("a connection cannot be sent in the middle of a message"));
        }
        fd::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ByteConnection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let socket: OwnedFd = fd::deserialize(deserializer)?;
        if stream::is_stream(socket.as_fd()) {
            Ok(Self::new(socket))
        } else {
            Err(de::Error::custom("a descriptor that should be a connection is not a stream socket"))
        }
    }
}
