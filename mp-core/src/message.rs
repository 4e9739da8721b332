//! An encoded value with its handles, ready to travel.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec::{self, DecodeError, EncodeError, Input, Output, message_limit};
use crate::handle::{self, Beside, Undelivered};
use crate::sys;
use crate::sys::memfd::Reader;

/// A value in encoded form, with the handles that it holds.
///
/// Values up to 1 MiB are bytes on the heap; longer ones stand in a sealed anonymous memory file, which travels as a
/// descriptor: however long a message is, passing it on copies little, and receiving it decodes it out of that file.
///
/// A message is a value as well: it can be an argument, a result, or be sent over a connection, by code that does not know what is
/// inside.
///
/// # Process death
///
/// A message that is in flight when its receiver dies is freed by the kernel, with everything it carries.
///
/// # Values of which there is only one
///
/// A message that holds a value that asked to be told [if it is not delivered](crate::fd::if_undelivered) is delivered once at most, like
/// that value: it can be in one other message at a time, and decoding it, or encoding it, after it was delivered fails. It can be sent
/// again when the first attempt has failed. The value is told when the message, and all that it stands in, are dropped undelivered.
///
/// # Examples
///
/// ```
/// let message = mp_core::Message::encode(&("seven", 7u32))?;
/// let value: (String, u32) = message.decode()?;
/// assert_eq!(value, ("seven".to_owned(), 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Message {
    body: Body,
    beside: Beside,
}

/// The bytes of an encoded value.
pub(crate) enum Body {
    /// Up to the inline limit of whoever encoded it.
    Inline(Vec<u8>),
    /// The first `length` bytes of a sealed memory file.
    Sealed { file: OwnedFd, length: u64 },
}

/// The longest body, in bytes, that a [`Message`] keeps on the heap, so that one that waits holds no descriptor.
const INLINE: usize = 1 << 20;

/// The longest body, in bytes, that travels among the bytes of the message around it, which has to fit into one packet. A longer
/// one travels in a memory file.
const NESTED: usize = 16 << 10;

/// Encodes `value` into `output` and returns what goes beside it: the handles that it holds, duplicated.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, output: &mut impl Output) -> Result<Beside, EncodeError> {
    let collecting = handle::Collecting::begin();
    codec::encode(value, output)?;
    Ok(collecting.finish())
}

/// Decodes one value that takes all of `input` and all of `handles`.
///
/// Handles that the value does not take are closed, also when decoding fails.
pub(crate) fn decode<T: DeserializeOwned>(input: Input<'_>, handles: Vec<OwnedFd>) -> Result<T, DecodeError> {
    let offering = handle::Offering::begin(handles);
    let value = codec::decode(input)?;
    offering.finish()?;
    Ok(value)
}

impl Message {
    /// Encodes `value`. Handles in it are duplicated; the value keeps its own.
    ///
    /// # Errors
    ///
    /// A `Serialize` implementation failed, the value is longer than [`message_limit`], or descriptors or memory ran out.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let (body, beside) = Body::encode(value, INLINE, Vec::new())?;
        Ok(Self { body, beside })
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// The message is not an encoded `T`, or is longer than [`message_limit`], or holds a value of which there is only one and was sent
    /// already. Its handles are closed then.
    pub fn decode<T: DeserializeOwned>(mut self) -> Result<T, DecodeError> {
        self.beside.undelivered.take().map_err(|elsewhere| DecodeError::new(elsewhere.to_string()))?;
        self.body.decode(self.beside.handles)
    }

    /// The encoded form of `()`, and of nothing else that carries information.
    pub(crate) fn empty() -> Self {
        Self { body: Body::Inline(Vec::new()), beside: Beside::default() }
    }

    /// Tells whether the value holds handles.
    pub fn has_handles(&self) -> bool {
        !self.beside.handles.is_empty()
    }

    /// Returns the length of the encoded value in bytes, without its handles.
    pub fn encoded_len(&self) -> u64 {
        match &self.body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Sealed { length, .. } => *length,
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("encoded_len", &self.encoded_len())
            .field("handles", &self.beside.handles.len())
            .finish_non_exhaustive()
    }
}

impl Body {
    /// Encodes `value`, up to `inline` bytes into `scratch`, and otherwise into a memory file.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        value: &T,
        inline: usize,
        scratch: Vec<u8>,
    ) -> Result<(Self, Beside), EncodeError> {
        let mut writer = Writer::new(scratch, inline);
        let beside = encode(value, &mut writer)?;
        Ok((writer.finish()?, beside))
    }

    /// Wraps bytes that are a message as they are.
    pub(crate) fn raw(bytes: &[u8], inline: usize) -> Result<Self, EncodeError> {
        let mut writer = Writer::new(Vec::new(), inline);
        writer.write(bytes)?;
        writer.finish()
    }

    /// Puts bytes into a sealed memory file.
    fn seal(bytes: &[u8]) -> Result<OwnedFd, EncodeError> {
        match Self::raw(bytes, 0)? {
            Self::Sealed { file, .. } => Ok(file),
            Self::Inline(_) => Err(EncodeError::new("an empty message needs no memory file")),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(&mut self, handles: Vec<OwnedFd>) -> Result<T, DecodeError> {
        match self {
            Self::Inline(bytes) => decode(Input::whole(bytes), handles),
            Self::Sealed { file, length } => {
                let file = open(file, *length)?;
                let mut scratch =
                    vec![0; usize::try_from(*length).map_or(Input::AT_ONCE, |all| all.min(Input::AT_ONCE))];
                decode(Input::file(&mut scratch, file), handles)
            }
        }
    }
}

/// Opens a sealed body for reading, after checking its length against the limit.
pub(crate) fn open(file: &OwnedFd, length: u64) -> Result<Reader<'_>, DecodeError> {
    let limit = message_limit();
    if length > limit {
        return Err(DecodeError::new(format!("a message of {length} bytes is longer than the limit of {limit}")));
    }
    Reader::new(file.as_fd(), length).map_err(|error| DecodeError::new(error.to_string()))
}

/// Collects what is encoded: in memory until it is too long for that, then in a file by large writes.
struct Writer {
    /// What is not in the file.
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
    /// How much is in the file.
    flushed: u64,
    inline: usize,
    limit: u64,
}

/// How much is collected for one write.
const CHUNK: usize = 256 << 10;

/// How much room a message begins with: most need no more.
const SMALL: usize = 128;

impl Writer {
    fn new(bytes: Vec<u8>, inline: usize) -> Self {
        Self { bytes, file: None, flushed: 0, inline, limit: message_limit() }
    }

    fn flush(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let failed = |error| EncodeError::new(format!("no memory for a large message: {error}"));
        let file = match self.file.take() {
            Some(file) => file,
            None => sys::memfd::create().map_err(failed)?,
        };
        let file = self.file.insert(file);
        self.flushed += bytes.len() as u64;
        sys::memfd::append(file.as_fd(), bytes, self.flushed).map_err(failed)
    }

    fn check(&self, length: usize) -> Result<(), EncodeError> {
        if self.flushed + length as u64 > self.limit { Err(EncodeError::too_large(self.limit)) } else { Ok(()) }
    }

    #[cold]
    fn grow(&mut self, more: &[u8]) -> Result<(), EncodeError> {
        if self.bytes.len() + more.len() > self.inline.max(CHUNK) {
            return self.spill(more);
        }
        self.bytes.reserve(more.len().max(SMALL));
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn spill(&mut self, more: &[u8]) -> Result<(), EncodeError> {
        self.check(self.bytes.len() + more.len())?;
        if !self.bytes.is_empty() {
            let mut bytes = std::mem::take(&mut self.bytes);
            self.flush(&bytes)?;
            bytes.clear();
            self.bytes = bytes;
        }
        if more.len() < CHUNK {
            self.bytes.extend_from_slice(more);
            return Ok(());
        }
        self.flush(more)
    }

    fn finish(mut self) -> Result<Body, EncodeError> {
        self.check(self.bytes.len())?;
        if self.bytes.len() <= self.inline && self.file.is_none() {
            return Ok(Body::Inline(self.bytes));
        }
        let rest = std::mem::take(&mut self.bytes);
        self.flush(&rest)?;
        let Some(file) = self.file else { return Ok(Body::Inline(rest)) };
        sys::memfd::seal(file.as_fd())
            .map_err(|error| EncodeError::new(format!("a large message could not be sealed: {error}")))?;
        Ok(Body::Sealed { file, length: self.flushed })
    }
}

impl Output for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // The limit is looked at when there is a chunk, and at the end, so that a byte costs no more than a byte.
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            return self.grow(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// How a message stands inside another one: the body, then its handles, then whether it may be passed on once only.
#[derive(Serialize)]
enum NestedRef<'a> {
    Inline(#[serde(with = "serde_bytes")] &'a [u8]),
    Sealed(BorrowedHandle<'a>, u64),
}

/// The same, received.
#[derive(Deserialize)]
enum Nested {
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    Sealed(OwnedHandle, u64),
}

struct BorrowedHandle<'a>(BorrowedFd<'a>);

impl Serialize for BorrowedHandle<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(self.0, serializer)
    }
}

struct OwnedHandle(OwnedFd);

impl<'de> Deserialize<'de> for OwnedHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handle::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::lend(&self.beside.undelivered)?;
        // Kept until the packet holds a duplicate of it.
        let sealed;
        let body = match &self.body {
            Body::Inline(bytes) if bytes.len() > NESTED => {
                sealed = Body::seal(bytes).map_err(ser::Error::custom)?;
                NestedRef::Sealed(BorrowedHandle(sealed.as_fd()), bytes.len() as u64)
            }
            Body::Inline(bytes) => NestedRef::Inline(bytes),
            Body::Sealed { file, length } => NestedRef::Sealed(BorrowedHandle(file.as_fd()), *length),
        };
        let handles: Vec<_> = self.beside.handles.iter().map(|fd| BorrowedHandle(fd.as_fd())).collect();
        (body, handles, self.beside.undelivered.is_once()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (body, handles, once) = <(Nested, Vec<OwnedHandle>, bool)>::deserialize(deserializer)?;
        let body = match body {
            Nested::Inline(bytes) => Body::Inline(bytes),
            Nested::Sealed(file, length) if length <= INLINE as u64 => {
                let bytes = open(&file.0, length).and_then(|file| Input::file(&mut [], file).into_vec());
                Body::Inline(bytes.map_err(de::Error::custom)?)
            }
            Nested::Sealed(file, length) => Body::Sealed { file: file.0, length },
        };
        let undelivered = if once { Undelivered::once() } else { Undelivered::default() };
        Ok(Self { body, beside: Beside { handles: handles.into_iter().map(|handle| handle.0).collect(), undelivered } })
    }
}
