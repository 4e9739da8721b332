//! Taking back memory that was lost with another process.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::{Buffer, BufferError};
use crate::ShmSafe;
use crate::pauses::Pauses;
use crate::segment::Segment;
use crate::sys::{memfd, ranges};

/// The right to take back the values of a buffer that has no owner: its owner died, or dropped it.
///
/// Make it with [`Buffer::reclaimer`] before you send the buffer, or a part of one. It takes a
/// descriptor, and no address space.
///
/// Use it when the owner is known to be dead, as after an error of
/// [`join`](mp_core::Process::join). A buffer in a message that no process has received yet has no
/// owner either: who reclaims it then becomes its owner, and the receiver of the message has to
/// wait.
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

impl<T: ShmSafe + Copy> Buffer<T> {
    /// Makes a right to have these values again if they are lost with another process.
    ///
    /// # Errors
    ///
    /// There is no free descriptor.
    pub fn reclaimer(&self) -> io::Result<Reclaimer<T>> {
        let segment = self.memory.segment();
        Ok(Reclaimer { segment: segment.with_file(self.memory.for_others()?), range: self.range.clone() })
    }
}

impl<T: ShmSafe + Copy> Reclaimer<T> {
    /// Has the values again, as whoever had them last left them.
    ///
    /// # Errors
    ///
    /// Somebody has some of them, this process included: [`BufferError::InUse`]. They are frozen;
    /// descriptors or address space have run out. The right is given back.
    pub fn reclaim(self) -> Result<Buffer<T>, ReclaimError<T>> {
        self.reclaim_timeout(Duration::ZERO)
    }

    /// Has the values again as soon as nobody has them.
    ///
    /// # Errors
    ///
    /// As [`reclaim`](Self::reclaim), if somebody has them for as long as that.
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
        // A description of its own: this one stays as it is, should it fail.
        let file = memfd::reopen(self.segment.as_fd())?;
        // Before it is mapped, which would keep an owner from freezing it.
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
#[error("the buffer could not be reclaimed")]
pub struct ReclaimError<T> {
    /// The right, to try it again.
    pub reclaimer: Reclaimer<T>,
    /// Why not.
    #[source]
    pub reason: BufferError,
}

impl<T> fmt::Debug for ReclaimError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReclaimError").field("reason", &self.reason).finish_non_exhaustive()
    }
}
