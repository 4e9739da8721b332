//! Strings as the C library takes the arguments and the environment of a program.

use std::ffi::{CStr, c_char};
use std::ptr;

use serde::{Deserialize, Serialize};

/// Strings one behind the other, each with its zero byte.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Strings(#[serde(with = "serde_bytes")] Vec<u8>);

impl Strings {
    /// Adds the string that these parts make up.
    ///
    /// # Errors
    ///
    /// The string contains a zero byte, and is given back.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), Vec<u8>> {
        if parts.iter().any(|part| part.contains(&0)) {
            return Err(parts.concat());
        }
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.push(0);
        Ok(())
    }

    /// Returns pointers to the strings, which are valid as long as these, and a null pointer.
    pub(crate) fn pointers(&self) -> Vec<*mut c_char> {
        // Most are longer.
        let mut pointers = Vec::with_capacity(self.0.len() / 16 + 1);
        let mut rest = &*self.0;
        // The bytes can be another process's: a string without an end does not count.
        while let Ok(string) = CStr::from_bytes_until_nul(rest) {
            pointers.push(string.as_ptr().cast_mut());
            rest = &rest[string.count_bytes() + 1..];
        }
        pointers.push(ptr::null_mut());
        pointers
    }
}
