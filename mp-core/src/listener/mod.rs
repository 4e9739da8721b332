//! Connections to programs that this library did not start: [`Listener`], [`Client`], [`ByteConnection`].
//!
//! On the wire it is what CPython's `multiprocessing.connection` speaks, so a Rust program and a Python program connect in either
//! direction. Its documentation has the sections "Listeners and Clients" and "Authentication keys":
//! <https://docs.python.org/3/library/multiprocessing.html#module-multiprocessing.connection>.
//!
//! A message is a frame (`framing`). With a key, these go first; L is the listener, C the client:
//!
//! | from | message |
//! |---|---|
//! | L | `#CHALLENGE#` and a challenge |
//! | C | the response |
//! | L | `#WELCOME#`, or `#FAILURE#` and the end |
//! | C | `#CHALLENGE#` and another challenge |
//! | L | the response |
//! | C | `#WELCOME#`, or `#FAILURE#` and the end |
//!
//! | who | challenge | response |
//! |---|---|---|
//! | this library, Python from 3.12 on | `{sha256}` and 40 random bytes | `{digest}` and the HMAC of the whole challenge |
//! | Python until 3.11 | 20 random bytes | the HMAC-MD5 of the whole challenge |
//!
//! Who is asked by a challenge without a name answers in the old way; who gets a response of 16 bytes takes it for one of the old way.
//!
//! What is in no documentation of CPython's: the handshake has a deadline; a process does not answer its own challenges (`challenge`);
//! an empty key is refused (Python until 3.12 takes it for none).

mod accept;
mod address;
#[cfg(feature = "async")]
mod asynchronous;
mod challenge;
mod client;
mod connection;
mod digest;
mod error;
mod file;
mod framing;
mod handshake;
#[cfg(feature = "json")]
mod json;
mod key;
mod slot;
mod travel;
mod waiting;

use std::time::Duration;

pub use accept::{Listener, ListenerBuilder};
pub use address::{Address, ParseAddressError};
pub use client::{Client, ClientBuilder};
pub use connection::ByteConnection;
pub use error::{AcceptError, AuthenticationError, ConnectError};
pub use key::AuthKey;

/// How long a handshake takes at most if nothing else is said.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
