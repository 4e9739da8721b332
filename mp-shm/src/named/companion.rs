//! The mark on memory that ends with its creator: a second name of the same file.
//!
//! Its form is the same in all versions of this library, because processes of one version clean up
//! after those of another.

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
    /// Makes a new empty file that has only this name.
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

    /// Removes the mark if it still exists.
    pub(super) fn remove(&self, identity: Identity) -> io::Result<bool> {
        named::unlink_if(self.as_bytes(), identity)
    }
}

/// Tells whether a name has the form of a mark.
pub(super) fn is_one(name: &[u8]) -> bool {
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(is_digit))
}

/// Returns sixteen digits that make a unique name: the pid, which shows which process made the
/// file, and eight random digits.
pub(super) fn digits() -> io::Result<String> {
    let mut bytes = [0; 4];
    // For so few bytes, the result is always complete, and no signal interrupts the call.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:08x}{:08x}", std::process::id(), u32::from_ne_bytes(bytes)))
}
