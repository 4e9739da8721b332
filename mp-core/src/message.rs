//! An encoded value with its handles, ready to travel.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec::{self, DecodeError, EncodeError, Output, Source, message_limit};
use crate::handle;
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
    handles: Vec<OwnedFd>,
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

impl Message {
    /// Encodes `value`. Handles in it are duplicated; the value keeps its own.
    ///
    /// # Errors
    ///
    /// A `Serialize` implementation failed, the value is longer than [`message_limit`], or descriptors or memory ran out.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        match Body::encode(value, INLINE, Vec::new(), None)? {
            Encoded::Whole(body, handles) => Ok(Self { body, handles }),
            Encoded::Passed => Err(EncodeError::new("there was no passage for the message")),
        }
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// The message is not an encoded `T`, or is longer than [`message_limit`]. Its handles are closed then.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        self.body.decode(self.handles)
    }

    /// The encoded form of `()`, and of nothing else that carries information.
    pub(crate) fn empty() -> Self {
        Self { body: Body::Inline(Vec::new()), handles: Vec::new() }
    }

    /// Tells whether the value holds handles.
    pub fn has_handles(&self) -> bool {
        !self.handles.is_empty()
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
            .field("handles", &self.handles.len())
            .finish_non_exhaustive()
    }
}

/// A value that was encoded.
pub(crate) enum Encoded {
    Whole(Body, Vec<OwnedFd>),
    /// All of it went through the passage.
    Passed,
}

/// Where the bytes of a message may go while it is encoded, instead of into a memory file.
pub(crate) trait Passage {
    /// Tells whether there is a passage. It is asked once, when the message turns out to be long: `least` bytes at least.
    ///
    /// # Errors
    ///
    /// The message cannot go anywhere.
    fn open(&mut self, least: u64) -> Result<bool, EncodeError>;

    /// Lets some bytes pass, with the handles that were collected so far.
    ///
    /// # Errors
    ///
    /// Nobody wants the rest.
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
}

impl Body {
    /// Encodes `value`, up to `inline` bytes into `scratch`, and otherwise into a memory file or through `passage`.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        value: &T,
        inline: usize,
        scratch: Vec<u8>,
        passage: Option<&mut dyn Passage>,
    ) -> Result<Encoded, EncodeError> {
        let mut writer = Writer::new(scratch, inline, passage);
        let handles = codec::encode(value, &mut writer)?;
        Ok(match writer.finish()? {
            Some(body) => Encoded::Whole(body, handles),
            None => Encoded::Passed,
        })
    }

    /// Wraps bytes that are a message as they are. `None` if they went through `passage`.
    pub(crate) fn raw(
        bytes: &[u8],
        inline: usize,
        passage: Option<&mut dyn Passage>,
    ) -> Result<Option<Self>, EncodeError> {
        let mut writer = Writer::new(Vec::new(), inline, passage);
        writer.write(bytes)?;
        writer.finish()
    }

    /// Puts bytes into a sealed memory file.
    fn seal(bytes: &[u8]) -> Result<OwnedFd, EncodeError> {
        match Self::raw(bytes, 0, None)? {
            Some(Self::Sealed { file, .. }) => Ok(file),
            _ => Err(EncodeError::new("an empty message needs no memory file")),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, handles: Vec<OwnedFd>) -> Result<T, DecodeError> {
        match self {
            Self::Inline(bytes) => codec::decode(bytes, handles),
            Self::Sealed { file, length } => codec::decode_stream(&mut open(file, *length)?, handles),
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

impl Source for Reader<'_> {
    fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, DecodeError> {
        Reader::read(self, into, most).map_err(unreadable)
    }

    fn read_slice(&mut self, into: &mut [u8]) -> Result<usize, DecodeError> {
        Reader::read_slice(self, into).map_err(unreadable)
    }

    fn announced(&self) -> usize {
        usize::try_from(self.left()).unwrap_or(usize::MAX)
    }
}

fn unreadable(error: std::io::Error) -> DecodeError {
    DecodeError::new(format!("a large message could not be read: {error}"))
}

/// Collects what is encoded: in memory until it is too long for that, then elsewhere by large writes.
struct Writer<'p> {
    /// What is not elsewhere.
    bytes: Vec<u8>,
    elsewhere: Elsewhere<'p>,
    /// How much is elsewhere.
    flushed: u64,
    inline: usize,
    limit: u64,
}

enum Elsewhere<'p> {
    Nothing(Option<&'p mut dyn Passage>),
    File(OwnedFd),
    Passage(&'p mut dyn Passage),
}

/// How much is collected for one write, and the shortest message that is offered a passage.
const CHUNK: usize = 256 << 10;

impl<'p> Writer<'p> {
    fn new(bytes: Vec<u8>, inline: usize, passage: Option<&'p mut dyn Passage>) -> Self {
        Self { bytes, elsewhere: Elsewhere::Nothing(passage), flushed: 0, inline, limit: message_limit() }
    }

    /// Puts `bytes` elsewhere; `more` is known to follow.
    fn flush(&mut self, bytes: &[u8], more: usize) -> Result<(), EncodeError> {
        let failed = |error| EncodeError::new(format!("no memory for a large message: {error}"));
        if let Elsewhere::Nothing(passage) = &mut self.elsewhere {
            let passage = match passage.take() {
                Some(passage) => passage.open((bytes.len() + more) as u64)?.then_some(passage),
                None => None,
            };
            self.elsewhere = match passage {
                Some(passage) => Elsewhere::Passage(passage),
                None => Elsewhere::File(sys::memfd::create().map_err(failed)?),
            };
        }
        self.flushed += bytes.len() as u64;
        match &mut self.elsewhere {
            Elsewhere::Nothing(_) => Ok(()),
            Elsewhere::File(file) => sys::memfd::append(file.as_fd(), bytes, self.flushed).map_err(failed),
            Elsewhere::Passage(passage) => passage.write(bytes),
        }
    }

    fn check(&self, length: usize) -> Result<(), EncodeError> {
        if self.flushed + length as u64 > self.limit { Err(EncodeError::too_large(self.limit)) } else { Ok(()) }
    }

    #[cold]
    fn spill(&mut self, more: &[u8]) -> Result<(), EncodeError> {
        self.check(self.bytes.len() + more.len())?;
        if !self.bytes.is_empty() {
            let mut bytes = std::mem::take(&mut self.bytes);
            self.flush(&bytes, more.len())?;
            bytes.clear();
            self.bytes = bytes;
        }
        if more.len() < CHUNK {
            self.bytes.extend_from_slice(more);
            return Ok(());
        }
        self.flush(more, 0)
    }

    /// The body, or `None` if it went through the passage.
    fn finish(mut self) -> Result<Option<Body>, EncodeError> {
        self.check(self.bytes.len())?;
        if self.bytes.len() <= self.inline && matches!(self.elsewhere, Elsewhere::Nothing(_)) {
            return Ok(Some(Body::Inline(self.bytes)));
        }
        if let Elsewhere::Nothing(passage) = &mut self.elsewhere {
            // It is not that long.
            *passage = None;
        }
        if !self.bytes.is_empty() || matches!(self.elsewhere, Elsewhere::Nothing(_)) {
            let rest = std::mem::take(&mut self.bytes);
            self.flush(&rest, 0)?;
        }
        let Elsewhere::File(file) = self.elsewhere else { return Ok(None) };
        sys::memfd::seal(file.as_fd())
            .map_err(|error| EncodeError::new(format!("a large message could not be sealed: {error}")))?;
        Ok(Some(Body::Sealed { file, length: self.flushed }))
    }
}

impl Output for Writer<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // The limit is looked at when there is a chunk, and at the end, so that a byte costs no more than a byte.
        if self.bytes.len() + bytes.len() > self.inline.max(CHUNK) {
            return self.spill(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), EncodeError> {
        // With the bytes that mention them go the handles that were collected last.
        if let Elsewhere::Passage(_) = self.elsewhere {
            self.check(self.bytes.len())?;
            let rest = std::mem::take(&mut self.bytes);
            self.flush(&rest, 0)?;
        }
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl Output for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// How a message stands inside another one: the body, then its handles.
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
        let handles: Vec<_> = self.handles.iter().map(|fd| BorrowedHandle(fd.as_fd())).collect();
        (body, handles).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (body, handles) = <(Nested, Vec<OwnedHandle>)>::deserialize(deserializer)?;
        let body = match body {
            Nested::Inline(bytes) => Body::Inline(bytes),
            Nested::Sealed(file, length) if length <= INLINE as u64 => {
                let bytes = open(&file.0, length).and_then(|file| file.read_all().map_err(unreadable));
                Body::Inline(bytes.map_err(de::Error::custom)?)
            }
            Nested::Sealed(file, length) => Body::Sealed { file: file.0, length },
        };
        Ok(Self { body, handles: handles.into_iter().map(|handle| handle.0).collect() })
    }
}
