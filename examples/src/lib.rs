//! A C library with bugs, for the example `isolate`: on some texts it crashes, never returns, or
//! takes all memory.

use serde::{Deserialize, Serialize};

/// How many tokens of each kind a text has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Tokens {
    pub words: std::ffi::c_ulong,
    pub strings: std::ffi::c_ulong,
    pub comments: std::ffi::c_ulong,
    pub groups: std::ffi::c_ulong,
}

unsafe extern "C" {
    fn count_tokens(bytes: *const u8, length: usize, found: *mut Tokens);
}

/// Counts the tokens of a text.
///
/// It is safe in the sense of Rust: it reads the text, writes the counts, and overflows no buffer.
/// But it may overflow its stack, which ends the process, never return, or leak until no memory is
/// left.
pub fn tokens(text: &[u8]) -> Tokens {
    let mut found = Tokens::default();
    // SAFETY: the text has as many bytes from its pointer on, which the function only reads, and
    // `found` is a `struct tokens`, of four `unsigned long`, that nothing else refers to.
    unsafe { count_tokens(text.as_ptr(), text.len(), &mut found) };
    found
}
