//! Rejoining the parts of a buffer.

use std::ops::Range;
use std::sync::Arc;

use super::memory::Memory;
use super::{Buffer, BufferError, PATIENCE, RejoinError, RejoinErrorReason};
use crate::{AnyBits, ShmSafe};

impl<T: AnyBits + Copy> Buffer<T> {
    /// Rejoins all parts of a buffer, in any order and from any processes.
    ///
    /// # Errors
    ///
    /// Fails if the parts are not of one buffer or not all of it, if one of them cannot be used, or
    /// if there is no address space. The error contains the parts. A part is lost only if another
    /// process takes it meanwhile, by a [`Reclaimer`](super::Reclaimer) or as the receiver of a
    /// message that contains the part by reference.
    pub fn rejoin(parts: impl IntoIterator<Item = Self>) -> Result<Self, RejoinError<T>> {
        join(parts.into_iter().collect(), true)
    }

    /// Joins this buffer and the part directly before or after it. It is the inverse of
    /// [`split_at`](Self::split_at).
    ///
    /// # Errors
    ///
    /// As [`rejoin`](Self::rejoin), but the two need not be all of the buffer.
    pub fn unsplit(self, other: Self) -> Result<Self, RejoinError<T>> {
        join(vec![self, other], false)
    }
}

fn join<T: AnyBits + Copy>(mut parts: Vec<Buffer<T>>, whole: bool) -> Result<Buffer<T>, RejoinError<T>> {
    parts.sort_by_key(|part| part.range.start);
    let reason_of = |part: &Buffer<T>| part.wait(PATIENCE).err();
    if let Some((unusable, reason)) =
        parts.iter().map(reason_of).enumerate().find_map(|(at, reason)| Some((at, reason?)))
    {
        // Even if the part can be used by now, because the parts after it were not checked.
        parts.swap(0, unusable);
        return Err(RejoinError { parts, reason: RejoinErrorReason::Part(reason) });
    }
    match base(&parts, whole) {
        Ok((memory, range)) => transfer(parts, memory, range),
        Err(reason) => Err(RejoinError { parts, reason }),
    }
}

/// The range of the joined parts, and memory with all of it mapped.
fn base<T: ShmSafe>(parts: &[Buffer<T>], whole: bool) -> Result<(Arc<Memory<T>>, Range<usize>), RejoinErrorReason> {
    let first = parts.first().ok_or(RejoinErrorReason::Empty)?;
    let segment = first.memory.segment();
    if !parts.iter().all(|part| part.memory.segment().is_same(segment)) {
        return Err(RejoinErrorReason::Foreign);
    }
    // An empty part can be anywhere, because its neighbours may have been joined before.
    let filled = || parts.iter().filter(|part| !part.range.is_empty());
    let start = if whole { 0 } else { filled().next().unwrap_or(first).range.start };
    let end = filled().try_fold(start, |end, part| match part.range.start {
        start if start > end => Err(RejoinErrorReason::Missing { start: end, end: start }),
        // Overlapping parts would not both own their values. There are none.
        start if start < end => Err(RejoinErrorReason::Foreign),
        _ => Ok(part.range.end),
    })?;
    if whole && end < segment.len() {
        return Err(RejoinErrorReason::Missing { start: end, end: segment.len() });
    }
    let range = start..end;
    match parts.iter().find(|part| part.memory.has(&range)) {
        Some(part) => Ok((Arc::clone(&part.memory), range)),
        None => first.memory.whole().map(|memory| (Arc::new(memory), range)).map_err(RejoinErrorReason::Io),
    }
}

/// Moves the locks of all parts to `memory`.
fn transfer<T: AnyBits + Copy>(
    parts: Vec<Buffer<T>>,
    memory: Arc<Memory<T>>,
    range: Range<usize>,
) -> Result<Buffer<T>, RejoinError<T>> {
    let mut transferred = Vec::with_capacity(parts.len());
    let mut parts = parts.into_iter();
    while let Some(part) = parts.next() {
        let (theirs, values) = part.into_parts();
        if theirs.is_open_with(&memory) {
            transferred.push(values);
            continue;
        }
        // For an instant no description has them locked. A process with a copy of a message or with
        // a `Reclaimer` may take them then, as it may at any time when they have no owner.
        theirs.disown(&values);
        let reason = match memory.try_own(&values) {
            Ok(true) => {
                transferred.push(values);
                continue;
            }
            Ok(false) => RejoinErrorReason::Part(BufferError::InUse),
            Err(error) => RejoinErrorReason::Part(BufferError::Io(error)),
        };
        let again = theirs.try_own(&values).unwrap_or(false);
        let given_back = again.then(|| Buffer::new(theirs, values, true)).into_iter();
        let before = transferred.into_iter().map(|values| Buffer::new(Arc::clone(&memory), values, true));
        return Err(RejoinError { parts: given_back.chain(before).chain(parts).collect(), reason });
    }
    Ok(Buffer::new(memory, range, true))
}
