//! An encoded value with its descriptors.

pub(crate) mod pair;
mod writer;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec::{self, DecodeError, EncodeError, Input, Output, Source, message_limit};
use crate::descriptor::{self, SharedFd};
use crate::large::LargeMessages;
use crate::sys::fd::duplicate;
use crate::sys::memfd::{MemoryFile, Reader};
pub(crate) use writer::Spill;
use writer::Writer;

/// An encoded value, with its descriptors.
///
/// Up to 1 MiB the bytes are on the heap. A longer value is in an anonymous memory file, which is
/// sent as a descriptor. So passing a message on copies little, however long it is.
///
/// A message is itself a value: code that does not know its type can pass it on as an argument or a
/// result, or send it over a connection.
///
/// # Process death
///
/// If the receiver dies while a message is in flight, the kernel frees the message, its memory file
/// and its descriptors.
///
/// # Examples
///
/// ```
/// let message = mp_core::raw::Message::encode(&("seven", 7u32))?;
/// let value: (String, u32) = message.decode()?;
/// assert_eq!(value, ("seven".to_owned(), 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Message {
    bytes: Bytes,
    descriptors: Vec<SharedFd>,
}

enum Bytes {
    Heap(Vec<u8>),
    /// The first `length` bytes of a memory file.
    File {
        file: OwnedFd,
        length: u64,
        /// Closed after the bytes were read, if the file will be used again: see the module
        /// `large`.
        receipt: Option<OwnedFd>,
    },
}

impl From<Box<MemoryFile>> for Bytes {
    fn from(file: Box<MemoryFile>) -> Self {
        let (file, length) = file.into_reader();
        Self::File { file, length, receipt: None }
    }
}

impl Bytes {
    fn lent(file: MemoryFile, large: &LargeMessages) -> Self {
        let length = file.length();
        let (file, receipt) = large.lend(file);
        Self::File { file, length, receipt }
    }
}

/// The longest value, in bytes, that a [`Message`] keeps on the heap, where it needs no descriptor.
const MOST_ON_HEAP: usize = 1 << 20;

/// The longest value, in bytes, that is a part of the bytes of the message around it. A longer one
/// is sent in a memory file, so the message limit applies to each of the two separately. It applies
/// to all nested messages that move to the heap together: see `may_copy`.
const MOST_NESTED: usize = 16 << 10;

/// Encodes `value` into `output` and returns its descriptors.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    output: &mut impl Output,
) -> Result<Vec<SharedFd>, EncodeError> {
    let collecting = descriptor::Collecting::begin();
    codec::encode_to(value, output)?;
    Ok(collecting.finish())
}

impl<'a> Spill<'a> {
    /// For a message that is not part of what is around it, if it is longer than `most`.
    #[inline(always)]
    fn beside(most: usize, large: Option<&'a LargeMessages>) -> Self {
        let lent = large.map(|large| (most.max(MOST_NESTED), large));
        Self { beyond: most.max(MOST_ON_HEAP), lent, file: &MemoryFile::create }
    }
}

/// What an encoded value has that is not in the buffer.
#[derive(Default)]
pub(crate) struct Beside {
    /// The body, if it is not in the buffer.
    pub(crate) file: Option<Box<MemoryFile>>,
    pub(crate) descriptors: Vec<SharedFd>,
}

/// Encodes `value` and appends the bytes to `buffer`, or writes them where `spill` says. If that
/// fails, the buffer is unchanged. Returns `None` if all of the value is in the buffer.
#[inline(always)]
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    buffer: &mut Vec<u8>,
    spill: Spill<'_>,
) -> Result<Option<Box<Beside>>, EncodeError> {
    let start = buffer.len();
    let collecting = descriptor::Collecting::begin();
    let (writer, encoded) = codec::encode(value, Writer::new(buffer, spill));
    if encoded.is_ok() && writer.is_done() && collecting.is_empty() {
        return Ok(None);
    }
    let finished = encoded.and_then(|()| Ok(Beside { file: writer.finish()?, descriptors: collecting.finish() }));
    if finished.is_err() {
        buffer.truncate(start);
    }
    finished.map(|beside| Some(Box::new(beside)))
}

/// Decodes one value from all of `input` and all of `descriptors`.
///
/// Descriptors that the value does not take are closed, even when decoding fails.
#[inline(always)]
pub(crate) fn decode<T: DeserializeOwned>(input: Input<'_>, descriptors: Vec<SharedFd>) -> Result<T, DecodeError> {
    decode_by(PhantomData::<T>, input, descriptors)
}

#[inline(always)]
fn decode_by<'de, S: DeserializeSeed<'de>>(
    seed: S,
    input: Input<'_>,
    descriptors: Vec<SharedFd>,
) -> Result<S::Value, DecodeError> {
    let offering = descriptor::Offering::begin(descriptors);
    let value = codec::decode_by(seed, input)?;
    offering.finish()?;
    Ok(value)
}

/// Makes a message from bytes that are already encoded.
pub(crate) fn encode_bytes(
    bytes: &[u8],
    buffer: &mut Vec<u8>,
    spill: Spill<'_>,
) -> Result<Option<Box<MemoryFile>>, EncodeError> {
    let mut writer = Writer::new(buffer, spill);
    writer.write(bytes)?;
    writer.finish()
}

impl Message {
    /// Encodes `value`. Descriptors in it are duplicated, or shared if they are [`SharedFd`]s; the
    /// value keeps its own.
    ///
    /// # Errors
    ///
    /// Fails if a `Serialize` implementation fails, the value is longer than [`message_limit`], or
    /// descriptors or memory run out.
    #[inline(always)]
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        let spill = Spill { beyond: MOST_ON_HEAP, lent: None, file: &MemoryFile::create };
        let Beside { file, descriptors } = encode(value, &mut bytes, spill)?.map(|beside| *beside).unwrap_or_default();
        Ok(Self { bytes: file.map_or(Bytes::Heap(bytes), Bytes::from), descriptors })
    }

    /// Appends the encoded form of `value` to `buffer`, if the value contains no descriptors and
    /// takes at most `most` bytes. Otherwise it returns the value as a message, and the buffer is
    /// unchanged. [`decode_plain`] decodes the bytes.
    ///
    /// A message of more than 16 KiB is in memory of `large`, unless too many are. A message of up
    /// to 1 MiB is then on the heap, so that messages can wait without descriptors.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    #[inline(always)]
    pub fn append<T: Serialize + ?Sized>(
        value: &T,
        buffer: &mut Vec<u8>,
        most: usize,
        large: Option<&LargeMessages>,
    ) -> Result<Option<Self>, EncodeError> {
        let start = buffer.len();
        let beside = encode(value, buffer, Spill::beside(most, large))?;
        if beside.is_none() && buffer.len() - start <= most {
            return Ok(None);
        }
        Ok(Some(Self::beside(beside, large, buffer, start)))
    }

    /// Makes a message of a body that is in a file, or at the end of `buffer`.
    fn beside(beside: Option<Box<Beside>>, large: Option<&LargeMessages>, buffer: &mut Vec<u8>, start: usize) -> Self {
        let Beside { file, descriptors } = beside.map(|beside| *beside).unwrap_or_default();
        let bytes = match (file, large) {
            (Some(file), Some(large)) => Bytes::lent(*file, large),
            (Some(file), None) => Bytes::from(file),
            (None, _) => Bytes::Heap(buffer.split_off(start)),
        };
        Self { bytes, descriptors }
    }

    /// Makes a message from bytes that [`append`](Self::append) appended.
    pub fn from_encoded(bytes: Vec<u8>) -> Self {
        Self { bytes: Bytes::Heap(bytes), descriptors: Vec::new() }
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// Fails if the message is not an encoded `T` or is longer than [`message_limit`]. Its
    /// descriptors are closed then.
    #[inline(always)]
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        self.decode_by(PhantomData::<T>)
    }

    /// Decodes the value as `seed` says.
    #[inline(always)]
    pub(crate) fn decode_by<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        match self.bytes {
            Bytes::Heap(mut bytes) => decode_by(seed, Input::whole(&mut bytes), self.descriptors),
            Bytes::File { file, length, receipt: _receipt } => {
                let file = open(&file, length)?;
                decode_by(seed, Input::file(&mut vec![0; Input::AT_ONCE], file), self.descriptors)
            }
        }
    }

    /// Returns the encoded form of `()`.
    pub(crate) fn empty() -> Self {
        Self { bytes: Bytes::Heap(Vec::new()), descriptors: Vec::new() }
    }

    /// Tells whether the value contains descriptors.
    pub fn has_descriptors(&self) -> bool {
        !self.descriptors.is_empty()
    }

    /// Returns the descriptors in the value.
    pub fn descriptors(&self) -> &[SharedFd] {
        &self.descriptors
    }

    /// Makes a message of an [encoded value](Self::to_vec) and the descriptors in it.
    pub fn from_parts(bytes: Vec<u8>, descriptors: Vec<OwnedFd>) -> Self {
        Self { bytes: Bytes::Heap(bytes), descriptors: descriptors.into_iter().map(SharedFd::from).collect() }
    }

    /// Takes the descriptors out of the message, for code that keeps them elsewhere.
    /// [`copy_with`](Self::copy_with) makes a complete message again.
    ///
    /// # Errors
    ///
    /// Fails if others share one, and no descriptor is free for a duplicate.
    pub fn take_descriptors(&mut self) -> io::Result<Vec<OwnedFd>> {
        self.descriptors.drain(..).map(SharedFd::into_owned).collect()
    }

    /// Copies the encoded value, and gives the copy these descriptors. A value in a memory file is
    /// not copied: both messages refer to the file.
    ///
    /// # Errors
    ///
    /// Fails if no descriptor is free for the memory file.
    pub fn copy_with(&self, descriptors: Vec<SharedFd>) -> io::Result<Self> {
        let bytes = match &self.bytes {
            Bytes::Heap(bytes) => Bytes::Heap(bytes.clone()),
            Bytes::File { file, length, receipt } => {
                let receipt = receipt.as_ref().map(|receipt| duplicate(receipt.as_fd())).transpose()?;
                Bytes::File { file: duplicate(file.as_fd())?, length: *length, receipt }
            }
        };
        Ok(Self { bytes, descriptors })
    }

    /// Tells whether the encoded values, without their descriptors, have the same bytes.
    ///
    /// # Errors
    ///
    /// Fails if a memory file cannot be read.
    pub fn has_bytes_of(&self, other: &Self) -> Result<bool, DecodeError> {
        if let (Bytes::Heap(mine), Bytes::Heap(theirs)) = (&self.bytes, &other.bytes) {
            return Ok(mine == theirs);
        }
        let (length, mut place) = (self.encoded_len(), 0);
        if length != other.encoded_len() {
            return Ok(false);
        }
        let (mut mine, mut theirs) = (vec![0; Input::AT_ONCE], vec![0; Input::AT_ONCE]);
        while place < length {
            let some = (length - place).min(Input::AT_ONCE as u64) as usize;
            self.read_at(place, &mut mine[..some])?;
            other.read_at(place, &mut theirs[..some])?;
            if mine[..some] != theirs[..some] {
                return Ok(false);
            }
            place += some as u64;
        }
        Ok(true)
    }

    /// Copies the encoded value, without its descriptors.
    ///
    /// # Errors
    ///
    /// Fails if a memory file cannot be read.
    pub fn to_vec(&self) -> Result<Vec<u8>, DecodeError> {
        match &self.bytes {
            Bytes::Heap(bytes) => Ok(bytes.clone()),
            Bytes::File { file, length, .. } => Input::file(&mut [], open(file, *length)?).into_vec(),
        }
    }

    /// Copies bytes of the encoded value, which has that many.
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), DecodeError> {
        match &self.bytes {
            Bytes::Heap(bytes) => into.copy_from_slice(&bytes[place as usize..][..into.len()]),
            Bytes::File { file, .. } => {
                let mut done = 0;
                while done < into.len() {
                    let read =
                        rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut into[done..], place + done as u64));
                    match read {
                        Ok(0) => return Err(unreadable(io::ErrorKind::UnexpectedEof.into())),
                        Ok(read) => done += read,
                        Err(error) => return Err(unreadable(error.into())),
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the length of the encoded value in bytes, without its descriptors.
    pub fn encoded_len(&self) -> u64 {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.len() as u64,
            Bytes::File { length, .. } => *length,
        }
    }
}

/// Decodes a value from the bytes that [`Message::append`] appended, in this process or another
/// one.
///
/// # Errors
///
/// Fails if the bytes are not an encoded `T`.
#[inline(always)]
pub fn decode_plain<T: DeserializeOwned>(bytes: &mut [u8]) -> Result<T, DecodeError> {
    decode(Input::whole(bytes), Vec::new())
}

/// Decodes a value of `length` bytes straight from memory that another process can write. Long byte
/// strings and vectors of numbers are copied once, into their own memory; `buffer` is for the rest.
///
/// # Errors
///
/// The bytes are not an encoded `T`.
pub fn decode_from<T: DeserializeOwned>(
    source: &dyn Source,
    length: usize,
    buffer: &mut Vec<u8>,
) -> Result<T, DecodeError> {
    buffer.resize(Input::AT_ONCE.min(length), 0);
    decode(Input::foreign(buffer, source, length), Vec::new())
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("encoded_len", &self.encoded_len())
            .field("descriptors", &self.descriptors.len())
            .finish_non_exhaustive()
    }
}

/// Opens a value in a memory file, after it has checked the length against the limit.
fn open(file: &OwnedFd, length: u64) -> Result<Reader<'_>, DecodeError> {
    let limit = message_limit();
    if length > limit {
        return Err(DecodeError::new(format!(
            "a message of {length} bytes is longer than the limit of {limit}; raise it with `set_message_limit`"
        )));
    }
    Reader::new(file.as_fd(), length).map_err(unreadable)
}

pub(crate) fn unreadable(error: io::Error) -> DecodeError {
    DecodeError::new(format!("a large message could not be read: {error}"))
}

struct BorrowedDescriptor<'a>(BorrowedFd<'a>);

impl Serialize for BorrowedDescriptor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        descriptor::serialize(self.0, serializer)
    }
}

struct OwnedDescriptor(OwnedFd);

impl<'de> Deserialize<'de> for OwnedDescriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        descriptor::deserialize(deserializer).map(Self)
    }
}

/// Tells whether a nested message of this length moves to the heap. All of one message together
/// stay within the limit, because they may all be in one file. What is beyond stays in its file.
fn may_copy(length: u64) -> bool {
    length <= MOST_ON_HEAP as u64 && descriptor::may_copy(length, message_limit())
}

/// The form of a message inside another one: the bytes, then its descriptors.
#[derive(Serialize)]
enum NestedRef<'a> {
    Inline(#[serde(with = "serde_bytes")] &'a [u8]),
    File(BorrowedDescriptor<'a>, u64, Option<BorrowedDescriptor<'a>>),
}

/// The same form, received.
#[derive(Deserialize)]
enum Nested {
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    File(OwnedDescriptor, u64, Option<OwnedDescriptor>),
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Kept until the packet holds a duplicate of it.
        let (made, length);
        let bytes = match &self.bytes {
            Bytes::Heap(bytes) if bytes.len() > MOST_NESTED => {
                let mut file = MemoryFile::create().map_err(ser::Error::custom)?;
                file.append(bytes).map_err(ser::Error::custom)?;
                (made, length) = file.into_reader();
                NestedRef::File(BorrowedDescriptor(made.as_fd()), length, None)
            }
            Bytes::Heap(bytes) => NestedRef::Inline(bytes),
            Bytes::File { file, length, receipt } => {
                let receipt = receipt.as_ref().map(|receipt| BorrowedDescriptor(receipt.as_fd()));
                NestedRef::File(BorrowedDescriptor(file.as_fd()), *length, receipt)
            }
        };
        (bytes, &self.descriptors).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, descriptors) = <(Nested, Vec<SharedFd>)>::deserialize(deserializer)?;
        let bytes = match bytes {
            Nested::Inline(bytes) => Bytes::Heap(bytes),
            Nested::File(file, length, _receipt) if may_copy(length) => {
                let bytes = open(&file.0, length).and_then(|file| Input::file(&mut [], file).into_vec());
                Bytes::Heap(bytes.map_err(de::Error::custom)?)
            }
            Nested::File(file, length, receipt) => {
                Bytes::File { file: file.0, length, receipt: receipt.map(|receipt| receipt.0) }
            }
        };
        Ok(Self { bytes, descriptors })
    }
}
