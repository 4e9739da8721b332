//! The challenges of this process that are not answered yet.
//!
//! The protocol does not say in a response who it is from. So someone without the key, to whom two of our clients connect, could
//! have one answer what the other asks. Against that, a process remembers what it asks for as long as the handshake lasts: a client
//! never answers what a client of this process asked, nor a listener what a listener asked. What a listener asks, a client of
//! the same process may well be meant to answer.
//!
//! No more is to be had on this wire: who stands between two that have the key can pass the handshake on from the one to the other.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::digest::Digest;
use super::key::fill_randomly;

/// As many random bytes as CPython takes.
const RANDOM: usize = 40;

/// Which side of a handshake it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Listener,
    Client,
}

/// What the peer is asked to sign. It is remembered until it is dropped.
pub(super) struct Challenge {
    role: Role,
    random: [u8; RANDOM],
}

static OUTSTANDING: Mutex<Vec<(Role, [u8; RANDOM])>> = Mutex::new(Vec::new());

fn outstanding() -> MutexGuard<'static, Vec<(Role, [u8; RANDOM])>> {
    // What is in it is right after each single step.
    OUTSTANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Challenge {
    /// Asks something that nobody has asked before, as the side `role`.
    pub(super) fn new(role: Role) -> io::Result<Self> {
        let mut random = [0; RANDOM];
        fill_randomly(&mut random)?;
        outstanding().push((role, random));
        Ok(Self { role, random })
    }

    /// What the peer signs: it begins with the name of the digest, so that nobody between can change that.
    pub(super) fn message(&self) -> Vec<u8> {
        [Digest::Sha256.prefix(), &self.random].concat()
    }

    /// Tells whether `message` is what this process asked itself, as the same side `role` that is to answer it.
    pub(super) fn is_reflected(role: Role, message: &[u8]) -> bool {
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
