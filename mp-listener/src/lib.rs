//! Authenticated connections to other programs, in Rust or in Python.
//!
//! A [`Listener`] waits at an [`Address`], a [`Client`] connects to it, and both get a
//! [`ByteConnection`]: messages of bytes, both ways, over a unix or TCP socket. With an
//! [`AuthKey`], each side proves to the other that it has the same key.
//!
//! ```
//! use mp_listener::{Address, AuthKey, Client, Listener};
//!
//! let key = AuthKey::random()?;
//! let listener = Listener::bind_with_key(Address::Tcp(([127, 0, 0, 1], 0).into()), &key)?;
//! let address = listener.address().clone(); // with the port that the kernel chose
//!
//! let client = std::thread::spawn(move || -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
//!     Ok(Client::connect_with_key(address, &key)?.recv_bytes()?)
//! });
//! listener.accept()?.authenticate()?.send_bytes(b"welcome")?;
//! assert_eq!(client.join().unwrap().unwrap(), b"welcome");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Python
//!
//! The wire protocol is that of CPython's `multiprocessing.connection`, so a Rust program and a
//! Python program connect in either direction. Its documentation has the sections "Listeners and
//! Clients" and "Authentication keys":
//! <https://docs.python.org/3/library/multiprocessing.html#module-multiprocessing.connection>.
//!
//! A message is its length and its bytes. The length is a signed 32-bit number, most significant
//! byte first; beyond 2^31 - 1 it is -1, followed by an unsigned 64-bit number. With a key, these
//! messages come first; L is the listener, C the client:
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
//! | side | challenge | response |
//! |---|---|---|
//! | this library, Python from 3.12 on | `{sha256}` and 40 random bytes | `{digest}` and the HMAC of the challenge |
//! | Python until 3.11 | 20 random bytes | the HMAC-MD5 of the challenge |
//!
//! A side answers a challenge that names no digest with HMAC-MD5, and takes a response of 16 bytes
//! for HMAC-MD5.
//!
//! This library adds three rules to CPython's. A handshake has a deadline. A process does not
//! answer its own challenges, so that an attacker cannot let one connection answer the challenge of
//! another. An empty key is an error; Python until 3.12 takes it for no key.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `async` | no | `accept_async`, `authenticate_async`, `send_bytes_async`, `recv_bytes_async`, on any executor |
//! | `json` | no | `send_json`, `recv_json`; depends on `serde_json` |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod address;
#[cfg(feature = "async")]
mod asynchronous;
mod challenge;
mod client;
mod connection;
mod digest;
mod error;
mod file;
mod handshake;
#[cfg(feature = "json")]
mod json;
mod key;
mod listener;
mod serialize;
mod sys;
mod transfer;
mod waits;

use std::time::Duration;

pub use address::{Address, ParseAddressError};
pub use client::{Client, ClientBuilder};
pub use connection::ByteConnection;
pub use error::{AuthenticationError, ConnectError, RecvError, SendError};
pub use key::AuthKey;
pub use listener::{Incoming, Listener, ListenerBuilder};

/// The default deadline of connecting and of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
