//! How a message names some values of a segment.

use std::ops::Range;
use std::os::fd::OwnedFd;

use mp_core::raw::SharedFd;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::segment::{Kind, Segment};
use crate::{AttachError, ShmSafe};

/// A descriptor of the segment, and the range of the values.
#[derive(Serialize, Deserialize)]
struct Sent<F>(#[serde(bound(serialize = "F: Serialize", deserialize = "F: Deserialize<'de>"))] F, u64, u64);

#[derive(Deserialize)]
struct Owned(#[serde(with = "mp_core::fd")] OwnedFd);

/// Encodes some values of the segment in `file`.
pub(crate) fn serialize<S: Serializer>(
    file: &SharedFd,
    values: &Range<usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Sent(file, values.start as u64, values.end as u64).serialize(serializer)
}

/// Decodes a segment and a range of values in it, and tells whether it is frozen.
pub(crate) fn deserialize<'de, T: ShmSafe, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(Segment<T>, Range<usize>, bool), D::Error> {
    let Sent(Owned(file), start, end) = Sent::deserialize(deserializer)?;
    attach(file, start, end).map_err(AttachError::explained)
}

fn attach<T: ShmSafe>(file: OwnedFd, start: u64, end: u64) -> Result<(Segment<T>, Range<usize>, bool), AttachError> {
    let (segment, frozen) = Segment::attach(file, Kind::Buffer)?;
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= segment.len() => Ok((segment, start..end, frozen)),
        _ => Err(AttachError::Range { start, end, length: segment.len() }),
    }
}
