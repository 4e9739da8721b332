//! Freezing a buffer.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::MmapRaw;

use super::memory::Memory;
use super::{Buffer, BufferError, FreezeError, PATIENCE};
use crate::pauses::Pauses;
use crate::sys::memfd;
use crate::{AnyBits, FrozenBuffer};

impl<T: AnyBits + Copy> Buffer<T> {
    /// Seals the memory permanently against writing by any process, without a copy.
    ///
    /// The values are then mapped at another address. A process that has just sent the buffer, or a
    /// part of it, may still be unmapping it. This waits for that, up to ten seconds.
    ///
    /// It fails if a process has mapped the memory for writing by means other than this library. So
    /// frozen values never change.
    ///
    /// Pages that were never touched are allocated now, so that a buffer of zeros costs the process
    /// that froze it memory, and not its readers.
    ///
    /// # Errors
    ///
    /// Fails if this is only a part of a buffer, if another process has mapped the memory for
    /// writing, if an empty part of the buffer still exists in this process, or if there is no
    /// address space or memory. The error contains the buffer.
    pub fn freeze(self) -> Result<FrozenBuffer<T>, FreezeError<T>> {
        self.freeze_timeout(PATIENCE)
    }

    /// Freezes the buffer like [`freeze`](Self::freeze), but waits for `timeout` at most.
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
        // Before the buffer is changed.
        let frozen = match self.prepare_to_read() {
            Ok(mapping) => mapping,
            Err(source) => return Err(FreezeError { buffer: Some(self), source }),
        };
        let mut pauses = Pauses::new();
        let (mut memory, range) = self.into_parts();
        // A part that is being sent shares the memory until the sending thread has dropped the
        // part.
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

    /// Allocates all pages, and maps the values for reading.
    fn prepare_to_read(&self) -> io::Result<Option<MmapRaw>> {
        let segment = self.memory.segment();
        if !memfd::is_allocated(segment.as_fd())? {
            memfd::commit(segment.as_fd(), segment.everything())?;
        }
        segment.map_to_read(&self.range)
    }
}

fn as_io(error: BufferError) -> io::Error {
    match error {
        BufferError::InUse => io::Error::new(io::ErrorKind::ResourceBusy, error),
        BufferError::Io(error) => error,
    }
}
