//! The ring without handles, waiting and wake-ups: for code that lays out its own shared memory, as
//! mp-pool does. Programs do not need this module.
//!
//! The memory is a [`Region`] of mp-shm. Its head has an [`Indices`] for each ring, and its bytes
//! are divided among the rings. A process turns its region into [`Parts`], and takes from them one
//! end of each ring, in the same order as the other process. Each end owns its part of the mapping,
//! so no two threads of a process use the same bytes.
//!
//! What travels is records: up to 256 GiB of bytes, and a tag of 24 bits whose meaning is the
//! caller's. [`append`] makes them, one behind the other, and [`Header::at`] finds them again. A
//! record takes 8 bytes and its own bytes, rounded up to 8. [`Producer::write`] copies any number
//! of them into the ring, and [`Producer::publish`] makes all of them visible by one store.
//! [`Consumer::take`] copies everything that was published out of the ring, and gives the memory
//! back by one store. No call waits or makes a system call; how one side wakes the other is for the
//! caller to decide.
//!
//! # Process death
//!
//! What was published stays in the memory, whatever happens to the process that wrote it. A
//! producer that dies before it publishes leaves nothing.
//!
//! # Hostile memory
//!
//! The other process may write anything anywhere in the memory at any time. An end accesses only
//! its own part of the bytes. The places in the ring are checked when they are used, and those that
//! no honest process writes are [`Damaged`]. `take` copies first; the caller looks at the copy,
//! which no longer changes. The content of records is for the caller to check.
//!
//! # Examples
//!
//! ```
//! use mp_queue::ring::raw::{self, Header, Indices, Parts};
//! use mp_shm::ShmSafe;
//! use mp_shm::raw::Region;
//!
//! #[derive(ShmSafe)]
//! struct Head {
//!     there: Indices,
//!     back: Indices,
//! }
//!
//! let region = Region::<Head>::zeroed(2 * 4096)?;
//! let file = region.duplicate(&[])?;
//! let mut parts = Parts::new(region);
//! let mut there = parts.producer(4096, |head| &head.there)?;
//! let back = parts.consumer(4096, |head| &head.back)?;
//!
//! // In another process, which received the file:
//! let mut parts = Parts::new(Region::<Head>::attach(file)?);
//! let mut requests = parts.consumer(4096, |head| &head.there)?;
//! let _answers = parts.producer(4096, |head| &head.back)?;
//!
//! let mut records = Vec::new();
//! raw::append(&mut records, 7, b"hello");
//! raw::append(&mut records, 8, b"");
//! assert!(there.write(&records)?, "there is room");
//! assert!(requests.is_empty());
//! there.publish();
//!
//! let mut taken = Vec::new();
//! requests.take(&mut taken)?;
//! let first = Header::at(&taken)?;
//! assert_eq!((first.tag, &taken[first.bytes()]), (Some(7), &b"hello"[..]));
//! let second = Header::at(&taken[first.whole()..])?;
//! assert_eq!((second.tag, second.length), (Some(8), 0));
//! assert!(back.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use mp_shm::raw::Region;

use crate::protocol::access::{self, Kind, Reader, Ring, Writer};
pub use crate::protocol::index::Indices;
use crate::protocol::index::{LARGEST, UNIT};

/// The length of a record's header, in bytes. The length of every record is a multiple of it.
pub const HEADER: usize = access::HEADER;

/// The largest tag.
pub const MOST_TAG: u32 = (1 << (u64::BITS - TAG_AT)) - 1;

/// Where the tag is in the word that a record begins with. Below it are the length and the kind.
const TAG_AT: u32 = 40;

/// Another process has written what no honest process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared memory of a ring is damaged: {0}")]
pub struct Damaged(&'static str);

impl From<access::Damaged> for Damaged {
    fn from(damaged: access::Damaged) -> Self {
        Self(damaged.0)
    }
}

/// What a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes the record has.
    pub length: usize,
    /// The tag. A record without a tag only fills the end of the ring, and is to be passed over.
    pub tag: Option<u32>,
}

impl Header {
    /// Reads the header at the beginning of `records`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] if there is no header, or the record is longer than what is there.
    #[inline]
    pub fn at(records: &[u8]) -> Result<Self, Damaged> {
        let (word, rest) = records.split_first_chunk::<HEADER>().ok_or(Damaged("a record has no header"))?;
        let word = u64::from_ne_bytes(*word);
        let length = (word & ((1 << TAG_AT) - 1)) >> 2;
        let tag = (word >> TAG_AT) as u32;
        let tag = match word & 3 {
            kind if kind == Kind::Message as u64 => Some(tag),
            kind if kind == Kind::Skip as u64 && tag == 0 => None,
            _ => return Err(Damaged("a record is of no known kind")),
        };
        match usize::try_from(length) {
            Ok(length) if length.next_multiple_of(HEADER) <= rest.len() => Ok(Self { length, tag }),
            _ => Err(Damaged("a record is longer than what was published")),
        }
    }

    /// Returns the bytes of the header, which are those of a whole record if the length is 0.
    ///
    /// # Panics
    ///
    /// If the tag is larger than [`MOST_TAG`].
    #[inline]
    pub const fn to_bytes(self) -> [u8; HEADER] {
        let (tag, kind) = match self.tag {
            Some(tag) => (tag, Kind::Message),
            None => (0, Kind::Skip),
        };
        assert!(tag <= MOST_TAG, "a tag has 24 bits");
        ((tag as u64) << TAG_AT | (self.length as u64) << 2 | kind as u64).to_ne_bytes()
    }

    /// The place of the record's bytes, from the beginning of its header.
    #[inline]
    pub fn bytes(self) -> Range<usize> {
        HEADER..HEADER + self.length
    }

    /// How many bytes the record takes, with its header.
    #[inline]
    pub fn whole(self) -> usize {
        HEADER + self.length.next_multiple_of(HEADER)
    }
}

/// Appends a record to others.
///
/// # Panics
///
/// If the tag is larger than [`MOST_TAG`].
pub fn append(records: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    let start = begin(records);
    records.extend_from_slice(bytes);
    finish(records, start, tag);
}

/// Leaves room for a header, and returns where it is. The caller then appends the bytes of the
/// record and calls [`finish`].
#[inline]
pub fn begin(records: &mut Vec<u8>) -> usize {
    let start = records.len();
    records.extend_from_slice(&[0; HEADER]);
    start
}

/// Makes a record of what was appended since [`begin`], which returned `start`.
///
/// # Panics
///
/// If the tag is larger than [`MOST_TAG`], or there is no room for a header at `start`.
#[inline]
pub fn finish(records: &mut Vec<u8>, start: usize, tag: u32) {
    let length = records.len() - start - HEADER;
    records.resize(start + HEADER + length.next_multiple_of(HEADER), 0);
    records[start..start + HEADER].copy_from_slice(&Header { length, tag: Some(tag) }.to_bytes());
}

/// A region that is divided among the ends of rings.
#[derive(Debug)]
pub struct Parts<H> {
    region: Arc<Region<H>>,
    /// How many bytes have been given to ends.
    given: usize,
}

impl<H> Parts<H> {
    /// Takes a region, none of whose bytes belong to an end yet.
    pub fn new(region: Region<H>) -> Self {
        Self { region: Arc::new(region), given: 0 }
    }

    /// Makes the writing end of the ring in the next `bytes` bytes. The head of the region has its
    /// indices.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the region has fewer bytes left, or `bytes`
    /// is not a power of two from 8 to 8 Gi.
    pub fn producer(&mut self, bytes: usize, indices: impl FnOnce(&H) -> &Indices) -> io::Result<Producer<H>> {
        let ring = self.ring(bytes, indices)?;
        let writer = Writer::new(ring, ring.indices.head());
        Ok(Producer { writer, region: Arc::clone(&self.region) })
    }

    /// Makes the reading end of the ring in the next `bytes` bytes. The head of the region has its
    /// indices.
    ///
    /// # Errors
    ///
    /// As [`producer`](Self::producer).
    pub fn consumer(&mut self, bytes: usize, indices: impl FnOnce(&H) -> &Indices) -> io::Result<Consumer<H>> {
        let ring = self.ring(bytes, indices)?;
        let reader = Reader::new(ring, ring.indices.tail());
        Ok(Consumer { reader, region: Arc::clone(&self.region) })
    }

    /// The returned ring lives no longer than the region, which every user of this keeps beside it.
    fn ring(&mut self, bytes: usize, indices: impl FnOnce(&H) -> &Indices) -> io::Result<Ring<'static>> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        if !bytes.is_power_of_two() || !(UNIT..=LARGEST).contains(&bytes) {
            return Err(invalid("the size of a ring is a power of two from 8 to 8 Gi"));
        }
        let end = self.given.checked_add(bytes).filter(|end| *end <= self.region.len());
        let end = end.ok_or_else(|| invalid("the region has no room for the ring"))?;
        let first = self.region.bytes();
        // SAFETY: the region has `len` bytes from there on, and `given` is not beyond `end`, which
        // is not beyond them.
        let start = unsafe { first.add(self.given) };
        if start.addr().get() % UNIT != 0 {
            return Err(invalid("the head of the region is no multiple of 8 bytes long"));
        }
        let indices = std::ptr::from_ref(indices(self.region.head()));
        // SAFETY: `indices` borrowed this from the head of the region, or from what lives at least
        // as long as any `H`, and so as an end. The ends own a share of the region, which keeps
        // the head mapped at its address, and use this only as long as they have it.
        let indices: &'static Indices = unsafe { &*indices };
        // SAFETY: from `start`, which was found aligned, as many bytes are in the region, and the
        // end that gets the ring keeps it mapped. No reference to them exists: the region gives
        // none, and what it was attached from is mapped elsewhere. No other end has them, because
        // `given` only grows. The size was found to be a power of two.
        let ring = unsafe { Ring::new(indices, start, bytes, u32::MAX) };
        self.given = end;
        Ok(ring)
    }
}

/// The end of a ring that writes records.
pub struct Producer<H> {
    /// Used only by methods of this type, and so while `region` exists.
    writer: Writer<'static>,
    region: Arc<Region<H>>,
}

impl<H> Producer<H> {
    /// Returns the value at the beginning of the region.
    #[inline]
    pub fn head(&self) -> &H {
        self.region.head()
    }

    /// Returns how many bytes of records [`write`](Self::write) has room for now.
    ///
    /// An empty ring has room for half of its size at least.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    pub fn room(&self) -> Result<usize, Damaged> {
        Ok(self.writer.room()?)
    }

    /// Copies records into the ring; false if there is no room for all of them. The other side does
    /// not see them yet.
    ///
    /// # Errors
    ///
    /// [`Damaged`]. Nothing was written then.
    ///
    /// # Panics
    ///
    /// If the length of `records` is not a multiple of 8, so that they cannot be records.
    #[inline]
    pub fn write(&mut self, records: &[u8]) -> Result<bool, Damaged> {
        assert!(records.len() % HEADER == 0, "records are multiples of 8 bytes long");
        Ok(self.writer.write_records(records)?)
    }

    /// Lets the other side see what was written.
    #[inline]
    pub fn publish(&mut self) {
        self.writer.publish();
    }
}

// SAFETY: the end is the only one with these bytes of the mapping, and it writes them only while it
// is borrowed exclusively. Any thread may use the region, which the end keeps mapped, and with it
// the indices, which are atomic.
unsafe impl<H: Send + Sync> Send for Producer<H> {}

/// The end of a ring that takes records.
pub struct Consumer<H> {
    /// Used only by methods of this type, and so while `region` exists.
    reader: Reader<'static>,
    region: Arc<Region<H>>,
}

// SAFETY: as for `Producer`.
unsafe impl<H: Send + Sync> Send for Consumer<H> {}

impl<H> Consumer<H> {
    /// Returns the value at the beginning of the region.
    #[inline]
    pub fn head(&self) -> &H {
        self.region.head()
    }

    /// Tells whether nothing was published that was not taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// Appends everything that was published to `records`, and makes room for more.
    ///
    /// # Errors
    ///
    /// [`Damaged`]. Nothing was taken then.
    #[inline]
    pub fn take(&mut self, records: &mut Vec<u8>) -> Result<(), Damaged> {
        Ok(self.reader.take_all(records)?)
    }
}

impl<H> fmt::Debug for Producer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("region", &self.region).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Consumer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("region", &self.region).finish_non_exhaustive()
    }
}
