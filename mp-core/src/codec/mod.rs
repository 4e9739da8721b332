//! The one place that turns values into bytes and back.
//!
//! The format is private to one executable: both ends of every transport run the same image, so nothing
//! is tagged with types or field names. Integers and floats are fixed-width little-endian; lengths and
//! variant numbers take one byte below 255 and nine from there on (255, then a `u64`); `Option` is one
//! byte; structs and tuples are their fields in order. Bytes are a sequence of `u8`, whether a type writes or reads them at once or
//! one by one.
//!
//! The bytes may come from a process that is damaged or hostile, so decoding promises:
//!
//! 1. nothing is allocated for a length that the remaining input cannot hold; where the input is still arriving, memory grows with
//!    what has arrived; and all sequences inside each other together reserve room for seven times as many elements at most as there
//!    are bytes;
//! 2. a sequence of elements that take no bytes is bounded by the input's length, like any other;
//! 3. nesting beyond [`MAX_DEPTH`] is an error, on the sending side too, so the stack is bounded;
//! 4. bytes left over, and handles left over, are errors;
//! 5. for a text or a byte string the lack of memory is an error. Other collections grow in serde's hands, where it ends the
//!    process.
//!
//! Why not an existing format is argued in `docs/DECISIONS.md`, "Our own codec".

mod de;
mod error;
mod ser;
mod source;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{DecodeError, EncodeError};
pub(crate) use ser::Output;
pub(crate) use source::{Source, copy};

use crate::handle;

/// The deepest nesting of values that is encoded or decoded: a value inside a value counts one.
pub(crate) const MAX_DEPTH: u32 = 512;

/// The first byte of a length that does not fit in one byte.
const LONG: u8 = 0xFF;

/// The length of the largest message, in bytes, that this process sends or accepts.
static MESSAGE_LIMIT: AtomicU64 = AtomicU64::new(DEFAULT_MESSAGE_LIMIT);

/// What [`message_limit`] is until [`set_message_limit`] is called: 16 GiB.
pub const DEFAULT_MESSAGE_LIMIT: u64 = 16 << 30;

/// What a start message and a report need at most, without what they carry.
const LOWEST_MESSAGE_LIMIT: u64 = 64 << 10;

/// Returns the length of the largest message, in bytes, that this process sends or accepts.
///
/// The limit holds for every encoded value: the arguments and the result of a call, and each message of
/// a connection. A longer one is an error on whichever side notices first, before memory is allocated
/// for it. Children start with their parent's limit.
pub fn message_limit() -> u64 {
    MESSAGE_LIMIT.load(Ordering::Relaxed)
}

/// Sets the length of the largest message, in bytes, that this process sends or accepts from now on.
///
/// Children that are started later inherit it; running ones keep theirs. A limit below 64 KiB counts as 64 KiB: messages up to that
/// length need no memory of their own and are always accepted.
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

/// Encodes `value` into `output` and returns the handles that it holds, duplicated.
pub(crate) fn encode<T, O>(value: &T, output: &mut O) -> Result<Vec<OwnedFd>, EncodeError>
where
    T: Serialize + ?Sized,
    O: Output,
{
    let collecting = handle::Collecting::begin();
    value.serialize(&mut ser::Serializer::new(output))?;
    Ok(collecting.finish())
}

/// Decodes one value that takes all of `bytes` and all of `handles`.
///
/// Handles that the value does not take are closed, also when decoding fails.
pub(crate) fn decode<T>(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<T, DecodeError>
where
    T: DeserializeOwned,
{
    let offering = handle::Offering::begin(handles);
    let mut deserializer = de::Deserializer::new(bytes);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.finish()?;
    offering.finish()?;
    Ok(value)
}

/// Decodes one value that takes everything that comes out of `source`, and all of `handles` and those that the source adds.
pub(crate) fn decode_stream<T>(source: &mut dyn Source, handles: Vec<OwnedFd>) -> Result<T, DecodeError>
where
    T: DeserializeOwned,
{
    let offering = handle::Offering::begin(handles);
    let mut deserializer = de::Deserializer::streaming(source);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.finish()?;
    offering.finish()?;
    Ok(value)
}
