//! Setting many slots, with one system call for many of them.

use super::item::Item;
use super::{ShareableListError as Error, SharedMemory};
use super::{encode, layout::Layout, window::Window};

/// How many bytes are collected before they are written.
const BLOCK: usize = 64 << 10;

/// Consecutive slots that are not written yet.
pub(super) struct Filler<'a> {
    memory: &'a SharedMemory,
    layout: &'a Layout,
    offsets: Window<'a>,
    /// The slot after the collected ones.
    next: usize,
    /// The offset of the collected bytes in the memory.
    begin: usize,
    bytes: Vec<u8>,
    formats: Vec<u8>,
    codes: Vec<u8>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(memory: &'a SharedMemory, layout: &'a Layout, first: usize) -> Self {
        let [bytes, formats, codes] = [const { Vec::new() }; 3];
        Self { memory, layout, offsets: Window::ahead(memory), next: first, begin: 0, bytes, formats, codes }
    }

    /// Adds the value of the next slot, or changes nothing.
    pub(super) fn push(&mut self, item: &Item) -> Result<(), Error> {
        if self.next >= self.layout.len {
            return Err(Error::OutOfBounds { index: self.next, len: self.layout.len });
        }
        let (begin, end) = self.layout.slot(self.next, &mut self.offsets)?;
        let encoded = encode(item, end - begin)?;
        let length = if encoded.is_padded() { end - begin } else { encoded.bytes().len() };
        // In a valid list the bytes are consecutive, unless a number is in a longer slot.
        if self.begin + self.bytes.len() != begin || self.bytes.len() + length > BLOCK {
            self.flush()?;
            self.begin = begin;
        }
        self.bytes.try_reserve(length)?;
        let padded = self.bytes.len() + length;
        self.bytes.extend_from_slice(encoded.bytes());
        self.bytes.resize(padded, 0);
        self.formats.extend_from_slice(&encoded.format);
        self.codes.push(encoded.code);
        self.next += 1;
        Ok(())
    }

    /// Writes the collected bytes.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.codes.is_empty() {
            return Ok(());
        }
        let first = self.next - self.codes.len();
        let formats = (self.layout.format(first), &self.formats[..]);
        let codes = (self.layout.code(first), &self.codes[..]);
        self.memory.write_parts(&[(self.begin, &self.bytes[..]), formats, codes])?;
        self.bytes.clear();
        self.formats.clear();
        self.codes.clear();
        Ok(())
    }
}
