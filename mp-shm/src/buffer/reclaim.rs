//! Taking back memory whose owner has died.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::{Buffer, BufferError};
use crate::AnyBits;
use crate::pauses::Pauses;
use crate::segment::Segment;
use crate::sys::{memfd, ranges};

/// The right to take back the values of a buffer that has no owner: its owner died, or dropped it.
///
/// Make it with [`Buffer::reclaimer`] before you send the buffer, or a part of one. It takes a
/// descriptor, and no address space.
///
/// Use it when you know that the owner is dead, for example after an error of
/// [`join`](mp_core::Process::join). A buffer in a message that no process has received has no
/// owner either. If you reclaim it then, you become its owner, and the receiver of the message has
/// to wait.
///
/// # Examples
///
/// ```
/// use mp_core::{JoinError, process_fn};
/// use mp_shm::Buffer;
///
/// #[process_fn]
/// fn fill(mut part: Buffer<u8>, value: u8) -> Buffer<u8> {
///     if value == 2 {
///         std::process::abort();
///     }
///     part.fill(value);
///     part
/// }
///
/// let mut work = Vec::new();
/// for (part, value) in Buffer::zeroed(3)?.split(3).into_iter().zip(1..) {
///     work.push((part.reclaimer()?, fill::spawn(part, value)?));
/// }
/// let mut parts = Vec::new();
/// for (reclaimer, process) in work {
///     parts.push(match process.join() {
///         Ok(part) => part,
///         Err(_) => reclaimer.reclaim()?,
///     });
/// }
/// assert_eq!(*Buffer::rejoin(parts)?, [1, 0, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reclaimer<T> {
    segment: Segment<T>,
    range: Range<usize>,
}

impl<T: AnyBits + Copy> Buffer<T> {
    /// Makes a right to take these values back if another process that owns them dies.
    ///
    /// # Errors
    ///
    /// Fails if there is no free descriptor.
    pub fn reclaimer(&self) -> io::Result<Reclaimer<T>> {
        let segment = self.memory.segment();
        Ok(Reclaimer { segment: segment.with_file(self.memory.for_others()?), range: self.range.clone() })
    }
}

impl<T: AnyBits + Copy> Reclaimer<T> {
    /// Takes the values back as their last owner left them.
    ///
    /// # Errors
    ///
    /// [`BufferError::InUse`] if some of the values have an owner, even in this process.
    /// [`BufferError::Io`] if they are frozen, or if there is no descriptor or address space. The
    /// error contains the reclaimer.
    pub fn reclaim(self) -> Result<Buffer<T>, ReclaimError<T>> {
        self.reclaim_timeout(Duration::ZERO)
    }

    /// Takes the values back as soon as they have no owner, and waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`reclaim`](Self::reclaim), if some of the values still have an owner after `timeout`.
    pub fn reclaim_timeout(self, timeout: Duration) -> Result<Buffer<T>, ReclaimError<T>> {
        let start = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let reason = match self.try_reclaim() {
                Ok(Some(buffer)) => return Ok(buffer),
                Ok(None) => BufferError::InUse,
                Err(error) => BufferError::Io(error),
            };
            let left = timeout.saturating_sub(start.elapsed());
            if !matches!(reason, BufferError::InUse) || left.is_zero() {
                return Err(ReclaimError { reclaimer: self, reason });
            }
            pauses.next(left);
        }
    }

    fn try_reclaim(&self) -> io::Result<Option<Buffer<T>>> {
        // A new description, so that this one is unchanged if an error follows.
        let file = memfd::reopen(self.segment.as_fd())?;
        // Before mapping it, because a mapping would keep an owner from freezing it.
        if !ranges::try_take(file.as_fd(), self.segment.bytes(&self.range))? {
            return Ok(None);
        }
        let memory = Memory::map(self.segment.with_file(file), self.range.clone())?;
        Ok(Some(Buffer::new(Arc::new(memory), self.range.clone(), true)))
    }
}

impl<T> fmt::Debug for Reclaimer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reclaimer").field("range", &self.range).finish_non_exhaustive()
    }
}

/// Values that could not be reclaimed, and why.
#[derive(thiserror::Error)]
#[error("the buffer could not be reclaimed: {reason}")]
pub struct ReclaimError<T> {
    /// The reclaimer, to try again.
    pub reclaimer: Reclaimer<T>,
    /// Why they could not.
    pub reason: BufferError,
}

impl<T> fmt::Debug for ReclaimError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReclaimError").field("reason", &self.reason).finish_non_exhaustive()
    }
}
