//! Reading a part of the memory from its beginning to its end, some way ahead.

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
    /// Reads no more than it is asked for.
    pub(super) fn exact(memory: &'a SharedMemory) -> Self {
        Self { memory, ahead: 0, bytes: Vec::new(), start: 0 }
    }

    /// Reads ahead, for what is read one after another.
    pub(super) fn ahead(memory: &'a SharedMemory) -> Self {
        Self { ahead: AHEAD, ..Self::exact(memory) }
    }

    /// Reads `length` bytes from `offset` on, and ahead until `end` at most, which is not before
    /// them.
    pub(super) fn read(&mut self, offset: usize, length: usize, end: usize) -> Result<&[u8], Error> {
        let held = offset.checked_sub(self.start).and_then(|skip| self.bytes.get(skip..)?.get(..length)).is_some();
        if !held {
            let most = length.max(self.ahead.min(end.saturating_sub(offset)));
            // Nothing is held if it fails.
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

/// The number at the beginning of some bytes, if it is not larger than anything here can be.
pub(super) fn word(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().and_then(|bytes| usize::try_from(u64::from_ne_bytes(*bytes)).ok())
}
