//! Many short values in one piece of memory: arguments on their way to a worker, results on their
//! way back.
//!
//! An entry is a header of 8 bytes, then its bytes, then zeros up to a multiple of 8. The header,
//! little-endian, holds the number of bytes in its low half, then the kind, then the flags.

/// How long the header of an entry is, in bytes; entries are multiples of it.
pub(crate) const HEADER: usize = 8;

/// The most bytes that an entry may have.
pub(crate) const MOST: usize = 4 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To a worker: the arguments of a call. To the pool: the value that it returned.
    Value = 1,
    /// The same, too long to stand here or with handles: it is the next message of the connection.
    Message = 2,
    /// To a worker: the function of the calls that follow, after its time limit in nanoseconds.
    Function = 3,
    /// To a worker: end.
    Exit = 4,
    /// To the pool: how a call ended that has no value, as an encoded `Outcome`.
    Outcome = 5,
    /// To the pool: the arguments could not be received, and why.
    Unreadable = 6,
    /// To the pool: how many nanoseconds the calls took whose results came since the last of these,
    /// and when the last of them ended, by the monotonic clock.
    Time = 7,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Value,
            2 => Self::Message,
            3 => Self::Function,
            4 => Self::Exit,
            5 => Self::Outcome,
            6 => Self::Unreadable,
            7 => Self::Time,
            _ => return None,
        })
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    /// The pool wants to be woken when this call is done.
    pub(crate) notify: bool,
}

impl Header {
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEADER] {
        (self.length as u64 | (self.kind as u64) << 32 | u64::from(self.notify) << 40).to_le_bytes()
    }

    /// Reads the header at the beginning of `bytes`; `None` if there is none, or what it announces
    /// is not there.
    #[inline]
    pub(crate) fn at(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let header = u64::from_le_bytes(*header);
        let length = (header & 0xFFFF_FFFF) as usize;
        let kind = Kind::from_number((header >> 32) as u8)?;
        let notify = match header >> 40 {
            0 => false,
            1 => true,
            _ => return None,
        };
        (length <= MOST && padded(length) <= rest.len()).then_some(Self { length, kind, notify })
    }

    /// How many bytes the entry takes, with its header.
    #[inline]
    pub(crate) fn whole(self) -> usize {
        HEADER + padded(self.length)
    }
}

#[inline]
fn padded(length: usize) -> usize {
    length.next_multiple_of(HEADER)
}

/// Appends an entry whose bytes `write` appends; it returns its kind.
#[inline]
pub(crate) fn append<E>(entries: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<Kind, E>) -> Result<(), E> {
    let start = entries.len();
    let mut whole = Restore { entries, start };
    whole.entries.extend_from_slice(&[0; HEADER]);
    let kind = write(whole.entries)?;
    close(whole.entries, start, kind);
    whole.start = usize::MAX;
    Ok(())
}

/// Makes an entry of bytes that have room for the header before them.
#[inline]
pub(crate) fn finish(entry: &mut Vec<u8>, kind: Kind) {
    close(entry, 0, kind);
}

#[inline]
fn close(entries: &mut Vec<u8>, start: usize, kind: Kind) {
    let length = entries.len() - start - HEADER;
    entries.resize(start + HEADER + padded(length), 0);
    entries[start..start + HEADER].copy_from_slice(&Header { length, kind, notify: false }.to_bytes());
}

/// Takes an entry out again that could not be written, or whose writing panicked.
struct Restore<'a> {
    entries: &'a mut Vec<u8>,
    start: usize,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.entries.truncate(self.start);
    }
}

/// Appends an entry of these bytes, as many of them as an entry may have.
pub(crate) fn append_bytes(entries: &mut Vec<u8>, kind: Kind, bytes: &[u8]) {
    let Ok(()) = append(entries, |entries| {
        entries.extend_from_slice(&bytes[..bytes.len().min(MOST)]);
        Ok::<_, std::convert::Infallible>(kind)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_failed_ones_leave_nothing() {
        let mut entries = Vec::new();
        for length in [0, 1, 7, 8, 9, 100, MOST] {
            append_bytes(&mut entries, Kind::Value, &vec![7; length]);
            let before = entries.clone();
            let failed = append(&mut entries, |entries| {
                entries.push(1);
                Err::<Kind, _>(())
            });
            assert_eq!((failed, &entries), (Err(()), &before));
        }
        let mut rest = &entries[..];
        for length in [0, 1, 7, 8, 9, 100, MOST] {
            let header = Header::at(rest).expect("it is whole");
            assert_eq!(header, Header { length, kind: Kind::Value, notify: false });
            assert!(rest[HEADER..][..length].iter().all(|byte| *byte == 7));
            rest = &rest[header.whole()..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn damaged_headers_are_noticed() {
        let header = |header: u64, room: usize| Header::at(&[&header.to_le_bytes()[..], &vec![0; room]].concat());
        assert!(header(1 << 32 | 8, 8).is_some());
        assert!(header(1 << 32 | 9, 8).is_none(), "its bytes are not there");
        assert!(header((1 << 32) | (MOST as u64 + 1), 2 * MOST).is_none(), "it is too long");
        assert!(header(8, 8).is_none(), "it has no kind");
        assert!(header(8 << 32, 8).is_none(), "its kind is unknown");
        assert!(header(1 << 32 | 2 << 40, 8).is_none(), "its flags are unknown");
        assert!(Header::at(&[0; 7]).is_none());
    }
}
