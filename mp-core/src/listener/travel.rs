//! What a connection of bytes needs to travel itself.

use std::os::fd::AsFd;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::ByteConnection;
use crate::handle;
use crate::sys::stream;

impl Serialize for ByteConnection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_at_boundary() {
            return Err(ser::Error::custom("a connection cannot be handed on in the middle of a message"));
        }
        handle::serialize(self.as_fd(), serializer)
    }
}

impl<'de> Deserialize<'de> for ByteConnection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let socket = handle::deserialize(deserializer)?;
        if stream::is_stream(socket.as_fd()) {
            Ok(Self::new(socket))
        } else {
            Err(de::Error::custom("a handle that should be a connection is no stream socket"))
        }
    }
}
