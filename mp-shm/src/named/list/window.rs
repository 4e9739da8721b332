//! Reading a part of the memory in order, and reading ahead.

use super::ShareableListError as Error;
use super::SharedMemory;

/// How far ahead, in bytes.
const AHEAD: usize = 64 << 10;

/// A copy of some bytes of the memory.
pub(super) struct Window<'a> {
    memory: &'a SharedMemory,
    ahead: usize,
    bytes: Vec<u8>,
    start: usize,
}

impl<'a> Window<'a> {
    /// Makes a window that does not read ahead.
    pub(super) fn exact(memory: &'a SharedMemory) -> Self {
        Self { memory, ahead: 0, bytes: Vec::new(), start: 0 }
    }

    /// Makes a window that reads ahead, for reading in order.
    pub(super) fn ahead(memory: &'a SharedMemory) -> Self {
        Self { ahead: AHEAD, ..Self::exact(memory) }
    }

    /// Reads `length` bytes from `offset` on, and reads ahead up to `end`, which is not before the
    /// last of them.
    pub(super) fn read(&mut self, offset: usize, length: usize, end: usize) -> Result<&[u8], Error> {
        let held = offset.checked_sub(self.start).and_then(|skip| self.bytes.get(skip..)?.get(..length)).is_some();
        if !held {
            let most = length.max(self.ahead.min(end.saturating_sub(offset)));
            // If reading fails, the window is empty.
            self.bytes.clear();
            self.bytes.try_reserve(most)?;
            self.bytes.resize(most, 0);
            if let Err(error) = self.memory.read_at(offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(error.into());
            }
            self.start = offset;
        }
        let skip = offset - self.start;
        Ok(&self.bytes[skip..skip + length])
    }
}

/// Returns the number at the beginning of some bytes, if it is a possible size or offset.
pub(super) fn word(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().and_then(|bytes| usize::try_from(u64::from_ne_bytes(*bytes)).ok())
}
