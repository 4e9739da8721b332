//! What travels in the rings between the pool and a worker: records of `mp_queue::ring::raw`, whose
//! tag is the kind.

use mp_queue::ring::raw;
pub(crate) use mp_queue::ring::raw::HEADER;

/// The most bytes that an entry may have.
pub(crate) const MOST: usize = 4 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it fills the end of the ring.
    Filler = 0,
    /// To a worker: the arguments of a call. To the pool: the value that it returned.
    Value = 1,
    /// The same, too long for an entry or with descriptors: it is the next message of the
    /// connection.
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
    /// To a worker: wake the pool if it sleeps, since it wants what is done by now.
    Notify = 8,
}

const KINDS: [Kind; 9] = [
    Kind::Filler,
    Kind::Value,
    Kind::Message,
    Kind::Function,
    Kind::Exit,
    Kind::Outcome,
    Kind::Unreadable,
    Kind::Time,
    Kind::Notify,
];

/// Entries without bytes.
pub(crate) const NOTIFY: [u8; HEADER] = raw::Header { length: 0, tag: Some(Kind::Notify as u32) }.to_bytes();
pub(crate) const EXIT: [u8; HEADER] = raw::Header { length: 0, tag: Some(Kind::Exit as u32) }.to_bytes();

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    record: raw::Header,
    pub(crate) kind: Kind,
}

impl Header {
    /// Reads the header at the beginning of `entries`; `None` if it is not one.
    #[inline]
    pub(crate) fn at(entries: &[u8]) -> Option<Self> {
        let record = raw::Header::at(entries).ok()?;
        let kind = *KINDS.get(record.tag.unwrap_or(Kind::Filler as u32) as usize)?;
        Some(Self { record, kind })
    }

    /// The place of the bytes of the entry, which begins at `at`.
    #[inline]
    pub(crate) fn bytes(self, at: usize) -> std::ops::Range<usize> {
        at + HEADER..at + HEADER + self.record.length
    }

    /// How many bytes the entry takes, with its header.
    #[inline]
    pub(crate) fn whole(self) -> usize {
        self.record.whole()
    }
}

/// Appends an entry whose bytes `write` appends; it returns its kind.
#[inline]
pub(crate) fn append<E>(entries: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<Kind, E>) -> Result<(), E> {
    let start = raw::begin(entries);
    let mut restore = Restore { entries, start };
    let kind = write(restore.entries)?;
    raw::finish(restore.entries, start, kind as u32);
    restore.start = usize::MAX;
    Ok(())
}

/// Makes an entry of bytes that have room for the header before them.
#[inline]
pub(crate) fn finish(entry: &mut Vec<u8>, kind: Kind) {
    raw::finish(entry, 0, kind as u32);
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
    raw::append(entries, kind as u32, &bytes[..bytes.len().min(MOST)]);
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
        let mut at = 0;
        for length in [0, 1, 7, 8, 9, 100, MOST] {
            let header = Header::at(&entries[at..]).expect("it is whole");
            assert_eq!((header.kind, &entries[header.bytes(at)]), (Kind::Value, &vec![7; length][..]));
            at += header.whole();
        }
        assert_eq!(at, entries.len());
    }

    #[test]
    fn kinds_keep_their_numbers_and_others_are_noticed() {
        for (number, kind) in (0..).zip(KINDS) {
            assert_eq!(number, kind as u32);
        }
        let mut entry = Vec::new();
        raw::append(&mut entry, KINDS.len() as u32, b"");
        assert_eq!(Header::at(&entry), None);
    }
}
