//! A buffer becomes one that nobody can write any more.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::{Buffer, BufferError, FreezeError, PATIENCE};
use crate::pauses::Pauses;
use crate::sys::memfd;
use crate::{FrozenBuffer, ShmSafe};

impl<T: ShmSafe + Copy> Buffer<T> {
    /// Seals the memory against every writer, in every process and for ever, without a copy.
    ///
    /// The values are mapped anew, at another address. A process that has just sent the buffer
    /// here, or a part of it, may still be busy unmapping it; that is waited for, up to ten
    /// seconds.
    ///
    /// Whoever has the memory mapped to be written in other ways than by this library makes it
    /// fail, so that what is frozen is frozen.
    ///
    /// # Errors
    ///
    /// It is a part of a buffer; another process has the memory mapped to be written; a part
    /// without values, which was split off, is still here; address space has run out. The buffer is
    /// given back.
    pub fn freeze(self) -> Result<FrozenBuffer<T>, FreezeError<T>> {
        self.freeze_timeout(PATIENCE)
    }

    /// The same, waiting for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`freeze`](Self::freeze).
    pub fn freeze_timeout(self, timeout: Duration) -> Result<FrozenBuffer<T>, FreezeError<T>> {
        let start = Instant::now();
        if let Err(error) = self.wait(timeout) {
            return Err(FreezeError { buffer: Some(self), source: as_io(error) });
        }
        if self.range != (0..self.memory.segment().len()) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the buffer is a part of a larger one");
            return Err(FreezeError { buffer: Some(self), source });
        }
        // While the buffer is still as it was.
        let frozen = match self.memory.segment().map_to_read(&self.range) {
            Ok(mapping) => mapping,
            Err(source) => return Err(FreezeError { buffer: Some(self), source }),
        };
        let mut pauses = Pauses::new();
        let (mut memory, range) = self.into_parts();
        // A part that was sent away shares the memory until the thread that sent it has dropped it.
        let memory = loop {
            match Arc::try_unwrap(memory) {
                Ok(memory) => break memory,
                Err(shared) => memory = shared,
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                let source = io::Error::new(io::ErrorKind::ResourceBusy, "a part of the buffer has not been dropped");
                return Err(FreezeError { buffer: Some(Self::new(memory, range, true)), source });
            }
            pauses.next(left);
        };
        let segment = memory.into_segment();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            match memfd::freeze(segment.as_fd()) {
                Ok(()) => return Ok(FrozenBuffer::new(segment, frozen, range)),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !left.is_zero() => pauses.next(left),
                Err(source) => {
                    drop(frozen);
                    let buffer = Memory::map(segment, range.clone()).ok();
                    let buffer = buffer.map(|memory| Self::new(Arc::new(memory), range, true));
                    return Err(FreezeError { buffer, source });
                }
            }
        }
    }
}

fn as_io(error: BufferError) -> io::Error {
    match error {
        BufferError::InUse => io::Error::new(io::ErrorKind::ResourceBusy, error),
        BufferError::Io(error) => error,
    }
}
