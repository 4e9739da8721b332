//! The challenges of the handshakes that this process is in.
//!
//! A response does not say who it is from. So a program without the key, to which two clients of
//! this process connect, could have one of them answer what the other asks. Against that, a process
//! remembers each of its challenges until the handshake ends: a client never answers what a client
//! of this process asks, and a listener never answers what a listener of this process asks. A
//! client may answer a listener of the same process, which is an ordinary connection.
//!
//! The protocol allows no more than that: a program between two that have the key can relay the
//! handshake from one to the other.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::key::fill_randomly;

/// As many random bytes as CPython takes.
const RANDOM: usize = 40;

/// Which side of a handshake it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Listener,
    Client,
}

/// What the peer is asked to sign. This process remembers it until it is dropped.
pub(crate) struct Challenge {
    role: Role,
    random: [u8; RANDOM],
}

static OUTSTANDING: Mutex<Vec<(Role, [u8; RANDOM])>> = Mutex::new(Vec::new());

fn outstanding() -> MutexGuard<'static, Vec<(Role, [u8; RANDOM])>> {
    // Each single step leaves it consistent.
    OUTSTANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Challenge {
    /// Makes a challenge that was never used before, for the side `role`.
    pub(crate) fn new(role: Role) -> io::Result<Self> {
        let mut random = [0; RANDOM];
        fill_randomly(&mut random)?;
        outstanding().push((role, random));
        Ok(Self { role, random })
    }

    /// What the peer signs. It includes the name of the digest, so that nobody on the wire can
    /// replace that.
    pub(crate) fn message(&self) -> Vec<u8> {
        [Digest::Sha256.prefix(), &self.random].concat()
    }

    /// Tells whether `message` is a challenge of this process, made for the same side `role` that
    /// is to answer it.
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
