//! Turns values into bytes and back.
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
//! So bytes look like a sequence of `u8`. Nothing is tagged with types or field names, because both
//! ends of every transport run the same executable. The bytes of a `Vec`, a slice or an array of
//! numbers are the same in memory and on the wire. So they are copied at once, where serde would
//! make one call for each number; see `sys::bytes`.
//!
//! bincode's own `Encode` and `Decode` write and read the primitives. The adapter to serde is ours,
//! because the bytes may come from a damaged or hostile process. Decoding promises:
//!
//! 1. nothing is allocated for a length that the remaining input cannot hold, and all nested
//!    sequences together reserve room for at most seven times as many elements as there are bytes;
//! 2. the input's length also bounds a sequence of elements that take no bytes;
//! 3. nesting beyond [`MAX_DEPTH`] is an error, on the sending side too, so the stack is bounded;
//! 4. left-over bytes are an error;
//! 5. a lack of memory for a text, a byte string or a vector of numbers is an error. serde
//!    allocates other collections, where a lack of memory aborts the process.
//!
//! `docs/DECISIONS.md` says why bincode's own adapter to serde would not do ("The wire is
//! bincode's"). No other module names bincode.

mod de;
#[cfg(test)]
mod differential;
mod error;
mod input;
mod ser;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use bincode::config::{Configuration, Fixint, LittleEndian, standard};
use serde::Serialize;
#[cfg(any(test, fuzzing))]
use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;

pub use error::{DecodeError, EncodeError};
pub(crate) use input::Input;
pub use input::Source;
pub(crate) use ser::Output;

type Format = Configuration<LittleEndian, Fixint>;

/// The configuration of bincode. Integers of variable width would save some bytes. Measured,
/// integers would take two to three times as long, structs 1.2 to 1.4 times, and texts as long. And
/// the bytes of a slice of numbers in memory would not be those on the wire.
const FORMAT: Format = standard().with_fixed_int_encoding();

/// The deepest nesting of values that is encoded or decoded. Each value that contains others is one
/// level.
pub(crate) const MAX_DEPTH: u32 = 512;

/// The length of the largest message, in bytes, that this process sends or accepts.
static MESSAGE_LIMIT: AtomicU64 = AtomicU64::new(DEFAULT_MESSAGE_LIMIT);

/// What [`message_limit`] is until [`set_message_limit`] is called: 16 GiB.
pub const DEFAULT_MESSAGE_LIMIT: u64 = 16 << 30;

/// An upper bound for the bytes of a start message and a report, without the values in them.
const LOWEST_MESSAGE_LIMIT: u64 = 64 << 10;

/// Returns the length of the largest message, in bytes, that this process sends or accepts.
///
/// The limit applies to every encoded value: the arguments and the result of a call, and each
/// message of a connection. A longer value is an error for its sender and for its receiver, which
/// allocates nothing for it. Children inherit their parent's limit when they start.
#[inline]
pub fn message_limit() -> u64 {
    MESSAGE_LIMIT.load(Ordering::Relaxed)
}

/// Sets the length of the largest message, in bytes, that this process sends or accepts.
///
/// Children that start later inherit it; running children keep theirs. A limit below 64 KiB means
/// 64 KiB.
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

/// Encodes `value` into `output`, and gives that back.
#[inline(always)]
pub(crate) fn encode<T, O>(value: &T, output: O) -> (O, Result<(), EncodeError>)
where
    T: Serialize + ?Sized,
    O: Output,
{
    ser::encode(value, output)
}

/// Encodes `value` into an output that is lent.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_to<T, O>(value: &T, output: &mut O) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
    O: Output,
{
    encode(value, output).1
}

/// Decodes one value from all of `input`.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode<T>(input: Input<'_>) -> Result<T, DecodeError>
where
    T: DeserializeOwned,
{
    decode_by(std::marker::PhantomData::<T>, input)
}

/// Decodes one value from all of `input`, as `seed` says.
#[inline(always)]
pub(crate) fn decode_by<'de, S: DeserializeSeed<'de>>(seed: S, input: Input<'_>) -> Result<S::Value, DecodeError> {
    let mut deserializer = de::Deserializer::new(input);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.finish()?;
    Ok(value)
}
