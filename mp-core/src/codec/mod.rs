//! The one place that turns values into bytes and back.
//!
//! The bytes are those of bincode 2 with the configuration [`FORMAT`]: `standard()` with integers
//! of fixed width.
//!
//! | value | bytes |
//! |---|---|
//! | integers and floats | their width, little-endian; `usize` and `isize` take 8 |
//! | `bool` | 1: 0 or 1 |
//! | `char` | its UTF-8 |
//! | `()`, unit structs | none |
//! | `Option` | 1: 0 or 1, then the value |
//! | text, bytes | a `u64`, then as many bytes |
//! | sequences, maps | a `u64`, then as many elements, or keys and values in turn |
//! | tuples, arrays, structs, newtypes | their fields in order |
//! | enums | a `u32`, the number of the variant, then its fields in order |
//!
//! So bytes look like a sequence of `u8`, and nothing is tagged with types or field names: both
//! ends of every transport run the same executable. A `Vec` or a slice of numbers looks in memory
//! as it does here, and is copied at once where serde would go from one to the next; see
//! `sys::bytes`.
//!
//! bincode writes and reads the primitives, through its own `Encode` and `Decode`. What serde makes
//! of a value goes through an adapter of ours, because the bytes may come from a process that is
//! damaged or hostile. Decoding promises:
//!
//! 1. nothing is allocated for a length that the remaining input cannot hold, and all sequences
//!    inside each other together reserve room for seven times as many elements at most as there are
//!    bytes;
//! 2. a sequence of elements that take no bytes is bounded by the input's length, like any other;
//! 3. nesting beyond [`MAX_DEPTH`] is an error, on the sending side too, so the stack is bounded;
//! 4. bytes left over are an error;
//! 5. for a text, a byte string or a vector of numbers the lack of memory is an error. Other
//!    collections grow in serde's hands, where it ends the process.
//!
//! Why serde's adapter in bincode does not serve is argued in `docs/DECISIONS.md`, "The wire is
//! bincode's". No other module names bincode.

mod de;
#[cfg(test)]
mod differential;
mod error;
mod input;
mod ser;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use bincode::config::{Configuration, Fixint, LittleEndian, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{DecodeError, EncodeError};
pub(crate) use input::Input;
pub(crate) use ser::Output;

type Format = Configuration<LittleEndian, Fixint>;

/// The configuration of bincode. Integers of variable width would save some bytes; integers took
/// two to three times as long when measured, structs 1.2 to 1.4 times, and texts as long. Nor would
/// a slice of numbers in memory be what it is on the wire.
const FORMAT: Format = standard().with_fixed_int_encoding();

/// The deepest nesting of values that is encoded or decoded: each value that has others inside
/// counts one.
pub(crate) const MAX_DEPTH: u32 = 512;

/// The length of the largest message, in bytes, that this process sends or accepts.
static MESSAGE_LIMIT: AtomicU64 = AtomicU64::new(DEFAULT_MESSAGE_LIMIT);

/// What [`message_limit`] is until [`set_message_limit`] is called: 16 GiB.
pub const DEFAULT_MESSAGE_LIMIT: u64 = 16 << 30;

/// What a start message and a report need at most, without what they carry.
const LOWEST_MESSAGE_LIMIT: u64 = 64 << 10;

/// Returns the length of the largest message, in bytes, that this process sends or accepts.
///
/// The limit holds for every encoded value: the arguments and the result of a call, and each
/// message of a connection. A longer one is an error on whichever side notices first, before memory
/// is allocated for it. Children start with their parent's limit.
pub fn message_limit() -> u64 {
    MESSAGE_LIMIT.load(Ordering::Relaxed)
}

/// Sets the length of the largest message, in bytes, that this process sends or accepts from now
/// on.
///
/// Children that are started later inherit it; running ones keep theirs. A limit below 64 KiB
/// counts as 64 KiB: messages up to that length need no memory of their own and are always
/// accepted.
///
/// # Examples
///
/// ```
/// mp_core::set_message_limit(1 << 20);
/// let (sender, receiver) = mp_core::pipe::<String>()?;
/// assert!(sender.send("x".repeat(2 << 20)).is_err());
/// assert_eq!(receiver.try_recv()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_message_limit(bytes: u64) {
    MESSAGE_LIMIT.store(bytes.max(LOWEST_MESSAGE_LIMIT), Ordering::Relaxed);
}

/// Encodes `value` into `output`.
pub(crate) fn encode<T, O>(value: &T, output: &mut O) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
    O: Output,
{
    ser::Serializer::new(output).value(value)
}

/// Decodes one value that takes all of `input`.
pub(crate) fn decode<T>(input: Input<'_>) -> Result<T, DecodeError>
where
    T: DeserializeOwned,
{
    let mut deserializer = de::Deserializer::new(input);
    let value = deserializer.seed(PhantomData::<T>)?;
    deserializer.finish()?;
    Ok(value)
}
