//! The challenges of this process's current handshakes.
//!
//! A response does not say which side computed it. So if two clients of this process connect to a
//! program without the key, the program could let one of them answer the challenge of the other. To
//! prevent that, a process remembers each of its challenges until the handshake ends. A client
//! never answers a challenge of a client of the same process, and a listener never answers one of a
//! listener of the same process. A client does answer a listener of the same process, which is an
//! ordinary connection.
//!
//! The protocol does not allow more protection: a program between two sides that have the key can
//! relay the handshake.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::key::fill_randomly;

/// The number of random bytes, as in CPython.
const RANDOM: usize = 40;

/// The side of a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Listener,
    Client,
}

/// The bytes that the peer has to sign. This process remembers them until the value is dropped.
pub(crate) struct Challenge {
    role: Role,
    random: [u8; RANDOM],
}

static OUTSTANDING: Mutex<Vec<(Role, [u8; RANDOM])>> = Mutex::new(Vec::new());

fn outstanding() -> MutexGuard<'static, Vec<(Role, [u8; RANDOM])>> {
    // Each step leaves the set consistent, so a poisoned lock does not matter.
    OUTSTANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Challenge {
    /// Makes a new challenge for the side `role`.
    pub(crate) fn new(role: Role) -> io::Result<Self> {
        let mut random = [0; RANDOM];
        fill_randomly(&mut random)?;
        outstanding().push((role, random));
        Ok(Self { role, random })
    }

    /// Returns the bytes that the peer signs. They include the name of the digest, so that an
    /// attacker on the wire cannot replace it.
    pub(crate) fn message(&self) -> Vec<u8> {
        [Digest::Sha256.prefix(), &self.random].concat()
    }

    /// Tells whether `message` is a challenge that this process made for the same side `role` that
    /// would answer it.
    pub(crate) fn is_reflected(role: Role, message: &[u8]) -> bool {
        outstanding().iter().any(|(asking, random)| *asking == role && message.ends_with(random))
    }
}

impl Drop for Challenge {
    fn drop(&mut self) {
        let mut outstanding = outstanding();
        if let Some(index) = outstanding.iter().position(|(role, random)| (*role, *random) == (self.role, self.random))
        {
            outstanding.swap_remove(index);
        }
    }
}
