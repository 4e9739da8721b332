//! Collects the bytes of a value while it is encoded: on the heap, and beyond some length in a
//! memory file.

use std::{io, mem};

use crate::codec::{EncodeError, Output, message_limit};
use crate::large::LargeMessages;
use crate::sys::memfd::MemoryFile;

/// When a body goes into a memory file.
pub(crate) struct Spill<'a> {
    /// The longest body that stays on the heap, in bytes.
    pub(crate) beyond: usize,
    /// The length beyond which a body goes into memory that was used before, if there is some.
    pub(crate) lent: Option<(usize, &'a LargeMessages)>,
    /// Makes the file.
    pub(crate) file: &'a dyn Fn() -> io::Result<MemoryFile>,
}

pub(super) struct Writer<'a> {
    /// The contents of `buffer` meanwhile: it is faster to write to what one owns. The part of the
    /// body that is not in the file begins at `start`.
    bytes: Vec<u8>,
    buffer: &'a mut Vec<u8>,
    start: usize,
    file: Option<Box<MemoryFile>>,
    spill: Spill<'a>,
    limit: u64,
}

impl<'a> Writer<'a> {
    /// Appends to `buffer`, up to its length limit.
    #[inline(always)]
    pub(super) fn new(buffer: &'a mut Vec<u8>, spill: Spill<'a>) -> Self {
        let bytes = mem::take(buffer);
        Self { start: bytes.len(), bytes, buffer, file: None, spill, limit: message_limit() }
    }

    /// Tells whether all of the body is in the buffer, and may stay there.
    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        let length = self.in_buffer().len();
        let most = self.spill.lent.map_or(self.spill.beyond, |(most, _)| most);
        self.file.is_none() && length <= most && length as u64 <= self.limit
    }

    /// Returns the file, if the body is not in the buffer.
    #[inline(always)]
    pub(super) fn finish(mut self) -> Result<Option<Box<MemoryFile>>, EncodeError> {
        self.check_limit(0)?;
        // The buffer may have more capacity than the longest body that stays on the heap.
        if self.spills(self.in_buffer().len())? {
            self.move_to_file()?;
        }
        Ok(self.file.take())
    }

    #[inline(always)]
    fn in_buffer(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn move_to_file(&mut self) -> Result<(), EncodeError> {
        if let Some(file) = &mut self.file {
            file.append(&self.bytes[self.start..]).map_err(no_memory)?;
            self.bytes.truncate(self.start);
        }
        Ok(())
    }

    #[inline(always)]
    fn check_limit(&self, more: usize) -> Result<(), EncodeError> {
        let length = self.file.as_ref().map_or(0, |file| file.length()) + (self.in_buffer().len() + more) as u64;
        if length > self.limit { Err(EncodeError::too_large(self.limit)) } else { Ok(()) }
    }

    /// Tells whether a body of so many bytes goes into the file, and makes one if it does.
    fn spills(&mut self, length: usize) -> Result<bool, EncodeError> {
        if self.file.is_none() {
            if let Some((_, large)) = self.spill.lent.take_if(|(most, _)| length > *most) {
                self.file = large.file_to_lend().map(Box::new);
            }
        }
        if self.file.is_none() && length > self.spill.beyond {
            self.file = Some(Box::new((self.spill.file)().map_err(no_memory)?));
        }
        Ok(self.file.is_some())
    }

    /// Writes bytes for which the buffer has no room.
    #[cold]
    fn write_beyond(&mut self, more: &[u8]) -> Result<(), EncodeError> {
        self.check_limit(more.len())?;
        let length = self.in_buffer().len() + more.len();
        if !self.spills(length)? {
            return self.grow(length, more);
        }
        self.move_to_file()?;
        if let Some(file) = self.file.as_mut().filter(|_| more.len() >= CHUNK) {
            return file.append(more).map_err(no_memory);
        }
        self.bytes.try_reserve(CHUNK).map_err(|error| no_memory(error.into()))?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Appends `more` to the buffer, which then has `length` bytes, and reserves room for as many
    /// again, so that growing is amortised.
    fn grow(&mut self, length: usize, more: &[u8]) -> Result<(), EncodeError> {
        let wanted = (length.max(FIRST) * 2).min(self.spill.beyond.max(length));
        self.bytes.try_reserve_exact(wanted - self.in_buffer().len()).map_err(|error| no_memory(error.into()))?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

/// The shortest piece that is written to the file directly. Shorter pieces are collected first.
const CHUNK: usize = 64 << 10;

/// Half of the least room, in bytes, that the first write reserves.
const FIRST: usize = 64;

fn no_memory(error: io::Error) -> EncodeError {
    EncodeError::new(format!("there is no memory for the message: {error}"))
}

/// Puts the bytes back, even if encoding panics.
impl Drop for Writer<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.buffer = mem::take(&mut self.bytes);
    }
}

impl Output for Writer<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // The limit is checked when there is no room and at the end, so that writing a byte is
        // cheap.
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            return self.write_beyond(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
