//! Bytes that arrive while they are decoded.

use super::{DecodeError, message_limit};
use crate::sys::pages;

/// Where more bytes of a message come from.
pub(crate) trait Source {
    /// Appends some bytes to `into`, `most` at most, and returns how many: 0 is the end of the message.
    ///
    /// # Errors
    ///
    /// The rest of the message does not come.
    fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, DecodeError>;
}

/// Room for `announced` bytes if it can be had, as far as a message can be that long, else for `least` of them.
///
/// What was announced and does not arrive costs address space and no memory.
fn begin(announced: usize, least: usize) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    // Fuzzing counts address space as memory.
    let limit = if cfg!(fuzzing) { AT_ONCE } else { usize::try_from(message_limit()).unwrap_or(usize::MAX) };
    let announced = announced.min(limit);
    if bytes.try_reserve_exact(announced).is_ok() {
        pages::prefer_huge(bytes.spare_capacity_mut());
    } else {
        reserve(&mut bytes, least.max(AT_ONCE))?;
    }
    Ok(bytes)
}

fn reserve(bytes: &mut Vec<u8>, more: usize) -> Result<(), DecodeError> {
    bytes.try_reserve_exact(more).map_err(|_| no_memory(more))
}

/// How many bytes are fetched at once, so that they are decoded while they are in the processor's cache.
const AT_ONCE: usize = 128 << 10;

/// Copies bytes whose number the sender has chosen: a lack of memory is an error, where `to_vec` would end the process.
pub(crate) fn copy(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut copy = Vec::new();
    reserve(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

#[cold]
fn no_memory(length: usize) -> DecodeError {
    DecodeError::new(format!("there is no memory for {length} bytes of the message"))
}

/// What is shown in the buffer instead of being moved into memory of its own.
pub(super) const SHORT: usize = AT_ONCE / 8;

/// The bytes that are at hand, and their source.
pub(super) struct Stream<'s> {
    source: &'s mut dyn Source,
    buffer: Vec<u8>,
    /// What is before this in the buffer was taken.
    start: usize,
    fetched: u64,
}

impl<'s> Stream<'s> {
    pub(super) fn new(source: &'s mut dyn Source) -> Self {
        Self { source, buffer: Vec::with_capacity(AT_ONCE), start: 0, fetched: 0 }
    }

    /// How many bytes were taken so far.
    pub(super) fn position(&self) -> u64 {
        self.fetched - self.at_hand().len() as u64
    }

    fn at_hand(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    #[inline]
    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        if self.at_hand().len() < N {
            self.fetch(N)?;
        }
        match self.at_hand().first_chunk::<N>() {
            Some(array) => {
                let array = *array;
                self.start += N;
                Ok(array)
            }
            None => Err(too_short(N, self.at_hand().len())),
        }
    }

    /// Shows the next `length` bytes, [`SHORT`] at most.
    pub(super) fn take_short(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        if self.at_hand().len() < length {
            self.fetch(length)?;
        }
        let start = self.start;
        self.start += length;
        self.buffer.get(start..start + length).ok_or_else(|| too_short(length, self.buffer.len() - start))
    }

    /// Moves the next `length` bytes into memory of their own, which is used as they arrive.
    pub(super) fn take_long(&mut self, length: usize) -> Result<Vec<u8>, DecodeError> {
        let at_hand = self.at_hand();
        let some = at_hand.len().min(length);
        let mut bytes = begin(length, some)?;
        bytes.extend_from_slice(&at_hand[..some]);
        self.start += some;
        while bytes.len() < length {
            if bytes.len() == bytes.capacity() {
                let more = bytes.len().max(AT_ONCE).min(length - bytes.len());
                reserve(&mut bytes, more)?;
            }
            let room = (bytes.capacity() - bytes.len()).min(length - bytes.len());
            match self.source.read(&mut bytes, room)? {
                0 => return Err(too_short(length - bytes.len(), 0)),
                some => self.fetched += some as u64,
            }
        }
        Ok(bytes)
    }

    /// Brings the bytes at hand to `least`, which fits into the buffer.
    #[cold]
    fn fetch(&mut self, least: usize) -> Result<(), DecodeError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < least {
            let room = AT_ONCE - self.buffer.len();
            match self.source.read(&mut self.buffer, room)? {
                0 => return Err(too_short(least, self.buffer.len())),
                some => self.fetched += some as u64,
            }
        }
        Ok(())
    }

    /// Checks that nothing is left.
    pub(super) fn finish(mut self) -> Result<usize, DecodeError> {
        match self.at_hand().len() {
            0 => {
                self.buffer.clear();
                self.source.read(&mut self.buffer, AT_ONCE)
            }
            left => Ok(left),
        }
    }
}

#[cold]
pub(super) fn too_short(needed: usize, left: usize) -> DecodeError {
    DecodeError::new(format!("the value needs {needed} more bytes, the message has {left}"))
}
