//! The bytes of a message that is being decoded.

use std::io;
use std::mem::MaybeUninit;

use bincode::de::read::Reader;
use bincode::error::DecodeError as Failure;

use super::DecodeError;
use crate::sys::bytes::{self, Number, Room};
use crate::sys::{memfd, pages};

/// A message to decode: bytes in memory, and possibly the rest elsewhere.
pub(crate) struct Input<'a> {
    /// The bytes in memory are at the end, from `start` on.
    scratch: &'a mut [u8],
    start: usize,
    /// How many bytes the message has beyond the beginning of `scratch`.
    length: u64,
    rest: Option<Rest<'a>>,
}

/// The part of a message that has not been read.
pub(crate) enum Rest<'a> {
    File(memfd::Reader<'a>),
    /// In memory that another process can write, so it is copied before it is used.
    Foreign(Foreign<'a>),
}

/// The bytes of a message in memory that another process can write.
pub(crate) struct Foreign<'a> {
    source: &'a dyn Source,
    position: usize,
    length: usize,
}

/// A message in memory that another process can write at any time. It is copied, and only the copy
/// is used.
pub trait Source {
    /// Copies the bytes from `position` on, which are in the message, into `to`.
    fn read(&self, position: usize, to: &mut [u8]);

    /// Does the same to memory that is not initialised, and returns that memory.
    fn fill<'b>(&self, position: usize, to: &'b mut [MaybeUninit<u8>]) -> &'b mut [u8];
}

impl Rest<'_> {
    fn position(&self) -> u64 {
        match self {
            Self::File(file) => file.position(),
            Self::Foreign(memory) => memory.position as u64,
        }
    }

    fn left(&self) -> u64 {
        match self {
            Self::File(file) => file.left(),
            Self::Foreign(memory) => (memory.length - memory.position) as u64,
        }
    }

    /// Fills `into`, which has no more bytes than are left.
    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact(into),
            Self::Foreign(memory) => {
                let position = memory.advance(into.len())?;
                memory.source.read(position, into);
                Ok(())
            }
        }
    }

    /// Fills `room`, which has no more bytes than are left.
    fn fill(&mut self, room: &mut Room<'_>) -> io::Result<()> {
        match self {
            Self::File(file) => file.fill(room),
            Self::Foreign(memory) => {
                let position = memory.advance(room.rest().len())?;
                room.fill_by(|rest| memory.source.fill(position, rest))
            }
        }
    }
}

impl Foreign<'_> {
    /// Passes over `length` bytes and returns where they begin.
    fn advance(&mut self, length: usize) -> io::Result<usize> {
        if length > self.length - self.position {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let position = self.position;
        self.position += length;
        Ok(position)
    }
}

/// How many bytes of a file are read first. A large message is often one long byte string after its
/// length. The rest of it is then read directly into its own memory, from whole pages.
const FIRST: usize = 4 << 10;

/// The longest text or byte string that a visitor borrows from the input. A longer one is first
/// copied into its own memory, and a lack of memory for it is an error.
const SHORT: usize = 16 << 10;

/// A text or a byte string.
pub(super) enum TakenBytes<'i> {
    Shown(&'i [u8]),
    Owned(Vec<u8>),
}

impl<'a> Input<'a> {
    /// How many bytes of a file are read at once, so that they are decoded while they are in the
    /// processor's cache.
    pub(crate) const AT_ONCE: usize = 128 << 10;

    /// Returns the input for a message that is in memory.
    #[inline(always)]
    pub(crate) fn whole(bytes: &'a mut [u8]) -> Self {
        Self { start: 0, length: bytes.len() as u64, scratch: bytes, rest: None }
    }

    /// Returns the input for a message in a file. It is read through `scratch`, which has
    /// [`AT_ONCE`](Self::AT_ONCE) bytes, or as many as the message.
    pub(crate) fn file(scratch: &'a mut [u8], file: memfd::Reader<'a>) -> Self {
        let start = scratch.len();
        Self { start, length: start as u64 + file.left(), scratch, rest: Some(Rest::File(file)) }
    }

    /// Returns the input for a message of `length` bytes in memory that another process can write.
    /// It is read through `scratch`, as from a file.
    pub(crate) fn foreign(scratch: &'a mut [u8], source: &'a dyn Source, length: usize) -> Self {
        let start = scratch.len();
        let rest = Rest::Foreign(Foreign { source, position: 0, length });
        Self { start, length: (start + length) as u64, scratch, rest: Some(rest) }
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) fn left(&self) -> u64 {
        self.length - self.start as u64
    }

    #[inline]
    fn at_hand(&self) -> &[u8] {
        &self.scratch[self.start..]
    }

    /// Reads everything that is left.
    pub(crate) fn into_vec(mut self) -> Result<Vec<u8>, DecodeError> {
        let length = usize::try_from(self.left()).map_err(|_| no_memory(self.left()))?;
        self.take_vec(length)
    }

    /// Fills `bytes`. At least as many are left.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let (head, tail) = bytes.split_at_mut(self.at_hand().len().min(bytes.len()));
        head.copy_from_slice(&self.scratch[self.start..][..head.len()]);
        self.start += head.len();
        match &mut self.rest {
            _ if tail.is_empty() => Ok(()),
            Some(rest) => {
                self.length -= tail.len() as u64;
                rest.read_exact(tail).map_err(|error| DecodeError::new(unreadable(&error)))
            }
            None => Err(too_short(tail.len() as u64, 0)),
        }
    }

    /// Reads the next `length` bytes.
    #[inline]
    pub(super) fn take(&mut self, length: u64) -> Result<TakenBytes<'_>, DecodeError> {
        let start = self.start;
        if length <= SHORT.min(self.scratch.len() - start) as u64 {
            self.start += length as usize;
            return Ok(TakenBytes::Shown(&self.scratch[start..self.start]));
        }
        self.take_more(length)
    }

    /// Reads bytes that are too many to borrow, or not in memory.
    #[cold]
    fn take_more(&mut self, length: u64) -> Result<TakenBytes<'_>, DecodeError> {
        let left = self.left();
        let length = match usize::try_from(length) {
            Ok(fits) if length <= left => fits,
            _ => return Err(too_short(length, left)),
        };
        if length > SHORT.min(self.scratch.len()) {
            return self.take_vec(length).map(TakenBytes::Owned);
        }
        self.refill(length).map_err(super::error::refused)?;
        self.take(length as u64)
    }

    /// Reads the given number of numbers.
    pub(super) fn take_numbers<N: Number>(&mut self, count: u64) -> Result<Vec<N>, DecodeError> {
        let (left, length) = (self.left(), count.saturating_mul(size_of::<N>() as u64));
        match usize::try_from(count) {
            Ok(count) if length <= left => self.take_vec(count),
            _ => Err(too_short(length, left)),
        }
    }

    /// Takes so many bytes, if they are at hand.
    #[inline(always)]
    pub(super) fn show(&mut self, length: usize) -> Option<&[u8]> {
        let shown = self.scratch.get(self.start..)?.get(..length)?;
        self.start += length;
        Some(shown)
    }

    /// Reads the bytes of an array of numbers.
    #[cold]
    pub(super) fn read_in_pieces(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        // There is room in memory for the longest number, and perhaps not for more.
        bytes.chunks_mut(size_of::<u128>()).try_for_each(|some| self.read(some))
    }

    /// Reads numbers into their own memory. Their bytes are left in the input.
    fn take_vec<N: Number>(&mut self, count: usize) -> Result<Vec<N>, DecodeError> {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(count).map_err(|_| no_memory(count.saturating_mul(size_of::<N>()) as u64))?;
        let read = bytes::append(&mut numbers, count, |room| {
            let length = room.rest().len();
            let some = &self.scratch[self.start..][..length.min(self.scratch.len() - self.start)];
            self.start += some.len();
            self.length -= (length - some.len()) as u64;
            room.put(some);
            match &mut self.rest {
                Some(rest) => {
                    pages::prefer_huge(room.rest());
                    rest.fill(room)
                }
                None => Ok(()),
            }
        });
        read.map_err(|error| DecodeError::new(unreadable(&error)))?;
        Ok(numbers)
    }

    /// Reads until at least `least` bytes are in memory.
    #[cold]
    fn refill(&mut self, least: usize) -> Result<(), Failure> {
        let Self { scratch, start, length, rest } = self;
        let at_hand = scratch.len() - *start;
        let Some(rest) = rest else { return Err(Failure::UnexpectedEnd { additional: least - at_hand }) };
        let room = if rest.position() == 0 { FIRST.max(least).min(*start) } else { *start };
        let more = usize::try_from(rest.left()).map_or(room, |left| left.min(room));
        if at_hand + more < least {
            return Err(Failure::UnexpectedEnd { additional: least - at_hand - more });
        }
        let moved = *start - more;
        scratch.copy_within(*start.., moved);
        // If reading fails, nothing is left.
        *start = scratch.len();
        *length = *start as u64;
        rest.read_exact(&mut scratch[moved + at_hand..]).map_err(|error| Failure::OtherString(unreadable(&error)))?;
        *start = moved;
        *length += rest.left();
        Ok(())
    }
}

/// The reader from which bincode reads its primitives.
impl Reader for Input<'_> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        loop {
            if let Some(at_hand) = self.scratch.get(self.start..).and_then(|at_hand| at_hand.get(..bytes.len())) {
                bytes.copy_from_slice(at_hand);
                self.start += bytes.len();
                return Ok(());
            }
            // `bytes` do not go there, so that those of a number can stay in a register.
            self.refill(bytes.len())?;
        }
    }
}

#[cold]
fn too_short(needed: u64, left: u64) -> DecodeError {
    super::error::refused(Failure::UnexpectedEnd { additional: usize::try_from(needed - left).unwrap_or(usize::MAX) })
}

#[cold]
fn no_memory(length: u64) -> DecodeError {
    DecodeError::new(format!("there is no memory for {length} bytes of the message"))
}

fn unreadable(error: &io::Error) -> String {
    format!("a large message could not be read: {error}")
}
