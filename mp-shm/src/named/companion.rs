//! The mark on memory that goes when its creator goes: a second name of the same file.
//!
//! Its form is the same in all versions of this library, as the processes of one clear up after
//! those of another.

use std::fs::File;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::sys::named::{self, Identity};

const PREFIX: &[u8] = b"mp-shm.";
const DIGITS: usize = 16;

/// The mark of one segment of memory.
#[derive(Debug)]
pub(super) struct Companion(String);

impl Companion {
    /// Makes a new empty file that has this name alone.
    pub(super) fn create() -> io::Result<(Self, File)> {
        loop {
            let name = format!("mp-shm.{}", digits()?);
            match named::create(name.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => return Ok((Self(name), file?)),
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Takes the mark away, if it is still there.
    pub(super) fn remove(&self, identity: Identity) -> io::Result<bool> {
        named::unlink_if(self.as_bytes(), identity)
    }
}

/// Whether a name has the form of these marks.
pub(super) fn is_one(name: &[u8]) -> bool {
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(is_digit))
}

/// Sixteen digits that nobody else has thought of: the number of this process, for those who look
/// who made what, and eight of chance.
pub(super) fn digits() -> io::Result<String> {
    let mut bytes = [0; 4];
    // So few bytes are never cut short, and a signal does not interrupt it.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:08x}{:08x}", std::process::id(), u32::from_ne_bytes(bytes)))
}
