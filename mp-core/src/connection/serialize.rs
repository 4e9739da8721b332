//! Sending an end of a connection in a message.

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserializer, de};

use crate::descriptor;
use crate::sys::socket;

/// Takes a connection's socket out of a message, and checks that it is one.
pub(super) fn received_socket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    let fd = descriptor::deserialize(deserializer)?;
    if socket::is_ours(fd.as_fd()) {
        Ok(fd)
    } else {
        Err(de::Error::custom("a connection was expected, and the descriptor is not a socket of this library"))
    }
}
