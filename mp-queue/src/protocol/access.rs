//! The two sides of the ring: writing messages into its bytes, and reading them.
//!
//! A record is a word and the bytes of the message, rounded up to units. The word is the kind in
//! its lowest two bits, and the length in bytes above them.
//!
//! | kind | bytes |
//! |---|---|
//! | 0 | a message |
//! | 1 | a message that is in the lane: its tag |
//! | 2 | none of meaning: the rest of the ring, up to its end, is skipped |
//!
//! A record never goes beyond the end of the ring. If it does not fit there, the producer skips the
//! rest. So it does, too, when the ring is empty and a record would cross a multiple of
//! [`RESTART`]: a queue that is mostly empty uses the same few pages again and again, which stay in
//! the processor's cache, however large the ring is.
//!
//! The bytes are read and written by copying. Nobody has a reference to them, because another
//! process can write them at any time.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use mp_core::raw::Source;

use super::index::{Index, Indices, UNIT};

/// Where an empty ring begins anew, in bytes.
const RESTART: u32 = 64 << 10;

/// What a record has beside the bytes of its message, in bytes.
pub(crate) const HEADER: usize = UNIT;

/// Another process has written over the words of the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damaged(pub(crate) &'static str);

/// The index of the consumer breaks invariant 2 of `index`.
const OUTSIDE: Damaged = Damaged("the position of its consumer is not in it");

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The bytes of a message.
    Message = 0,
    /// The tag of a message that is in the lane.
    Lane = 1,
    /// Nothing.
    Skip = 2,
}

/// A ring, as one process sees it.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    pub(crate) indices: &'a Indices,
    start: NonNull<u8>,
    /// In bytes: a power of two.
    size: usize,
    /// The most messages that it holds.
    limit: u32,
    memory: PhantomData<&'a u8>,
}

impl<'a> Ring<'a> {
    /// # Safety
    ///
    /// From `start`, which is aligned to units, `size` bytes are mapped for reading and writing for
    /// as long as `'a`, and this process has no reference to them. `size` is a power of two of at
    /// least one unit.
    #[inline]
    pub(crate) unsafe fn new(indices: &'a Indices, start: NonNull<u8>, size: usize, limit: u32) -> Self {
        Self { indices, start, size, limit, memory: PhantomData }
    }

    #[inline]
    fn units(&self) -> u32 {
        (self.size / UNIT) as u32
    }

    /// Where in the ring a position is, in units.
    #[inline]
    fn offset(&self, index: Index) -> u32 {
        index.position() & (self.units() - 1)
    }

    /// The place of `length` bytes, `offset` bytes from the beginning of the ring.
    #[inline]
    fn place(&self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(offset <= self.size && length <= self.size - offset, "a record stays inside the ring");
        // SAFETY: the sum is inside the ring, or at its end, as was just checked; `new` was told
        // that the ring is mapped.
        unsafe { self.start.add(offset) }
    }

    #[inline]
    fn write(&self, offset: usize, bytes: &[u8]) {
        let place = self.place(offset, bytes.len());
        // SAFETY: as many bytes from `place` on are mapped for writing. `bytes` is a reference of
        // this process, so it is not in the ring, to which there are none. By invariant 2 of
        // `index` no process of ours reads these bytes now; one that does all the same copies what
        // it finds.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
    }

    /// Copies the bytes from `offset` on into all of `to`.
    #[inline]
    fn read<'b>(&self, offset: usize, to: &'b mut [MaybeUninit<u8>]) -> &'b mut [u8] {
        let from = self.place(offset, to.len());
        let to = ptr::from_mut(to);
        // SAFETY: as many bytes from `from` on are mapped, and `to` has as many, exclusively
        // borrowed and not in the ring. By invariant 2 of `index` no process of ours writes them
        // now; one that does all the same changes what is copied, and nothing else.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.cast::<u8>(), to.len()) };
        // SAFETY: it is the memory that was borrowed for `'b`, and all of it has just been written.
        unsafe { &mut *(to as *mut [u8]) }
    }

    /// Appends the bytes from `offset` on to `bytes`.
    #[inline]
    fn append(&self, offset: usize, length: usize, bytes: &mut Vec<u8>) {
        bytes.reserve(length);
        let read = self.read(offset, &mut bytes.spare_capacity_mut()[..length]).len();
        let length = bytes.len() + read;
        // SAFETY: the bytes up to there have just been written.
        unsafe { bytes.set_len(length) };
    }

    #[inline]
    fn write_word(&self, offset: usize, word: u64) {
        self.write(offset, &word.to_ne_bytes());
    }

    #[inline]
    fn read_word(&self, offset: usize) -> u64 {
        let place = self.place(offset, UNIT).cast::<u64>();
        // SAFETY: a word is mapped there, and any bytes are one. It is read once, so that what is
        // checked is what is used, whatever another process does meanwhile.
        unsafe { place.as_ptr().read_volatile() }
    }
}

/// How many units the record of a message takes.
fn units_of(length: usize) -> u32 {
    ((HEADER + length).div_ceil(UNIT)) as u32
}

/// The producer's side, for one or more messages that are published together.
pub(crate) struct Writer<'a> {
    ring: Ring<'a>,
    published: Index,
    next: Index,
    /// What the consumer had taken when it was last looked at.
    head: Index,
}

impl<'a> Writer<'a> {
    /// `head` is an earlier head of the ring, to save a look at the word that the other side
    /// writes.
    #[inline]
    pub(crate) fn new(ring: Ring<'a>, head: Index) -> Self {
        let tail = ring.indices.tail();
        let writer = Self { ring, published: tail, next: tail, head };
        if writer.is_possible(head) {
            return writer;
        }
        // What is remembered is older than the ring is long, because a producer died or is new
        // here, or it is damaged. The ring counts as full, so the first write looks at the head.
        Self { head: writer.published.plus(ring.units().wrapping_neg(), 0), ..writer }
    }

    /// What the consumer had taken when it was last looked at.
    #[inline]
    pub(crate) fn head(&self) -> Index {
        self.head
    }

    #[inline]
    fn is_possible(&self, head: Index) -> bool {
        let units = self.next.units_since(head);
        // Every message takes a unit at least, so of an honest ring the count says no more.
        units <= self.ring.units() && self.next.messages_since(head) <= units
    }

    #[inline]
    fn look(&mut self) -> Result<(), Damaged> {
        let head = self.ring.indices.head();
        if !self.is_possible(head) {
            return Err(OUTSIDE);
        }
        self.head = head;
        Ok(())
    }

    /// Tells whether a message of `length` bytes can be published, and nothing has to be waited
    /// for.
    #[inline]
    pub(crate) fn has_room(&mut self, length: usize) -> Result<bool, Damaged> {
        self.find(units_of(length)).map(|place| place.is_some())
    }

    /// Where a record of so many units goes: how many units are skipped before it. `None` if there
    /// is no room.
    #[inline]
    fn find(&mut self, units: u32) -> Result<Option<u32>, Damaged> {
        let offset = self.ring.offset(self.next);
        let to_end = self.ring.units() - offset;
        let restart = RESTART / UNIT as u32;
        // Not whenever the ring is empty: what is skipped counts as used until it is taken, and a
        // ring whose rest is skipped after each message has room for one.
        let may_restart = offset > 0 && offset / restart != (offset + units) / restart;
        let mut looked = may_restart;
        if may_restart {
            self.look()?;
        }
        loop {
            let used = self.next.units_since(self.head);
            let skip = match () {
                () if units > to_end => to_end,
                () if may_restart && used == 0 && units <= offset => to_end,
                () => 0,
            };
            let fits = u64::from(used) + u64::from(skip) + u64::from(units) <= u64::from(self.ring.units());
            if fits && self.next.messages_since(self.head) < self.ring.limit {
                return Ok(Some(skip));
            }
            if looked {
                return Ok(None);
            }
            self.look()?;
            looked = true;
        }
    }

    /// Writes a record, to be published with the others; `false` if there is no room for it.
    #[inline]
    pub(crate) fn write(&mut self, kind: Kind, bytes: &[u8]) -> Result<bool, Damaged> {
        let units = units_of(bytes.len());
        let Some(skip) = self.find(units)? else { return Ok(false) };
        self.skip(skip);
        let offset = self.ring.offset(self.next) as usize * UNIT;
        self.ring.write_word(offset, (bytes.len() as u64) << 2 | kind as u64);
        self.ring.write(offset + HEADER, bytes);
        self.next = self.next.plus(units, 1);
        Ok(true)
    }

    /// Writes records that stand one behind the other, as a whole; `false` if there is no room for
    /// them. They count as no messages.
    #[inline]
    pub(crate) fn write_records(&mut self, records: &[u8]) -> Result<bool, Damaged> {
        if records.len() > self.ring.size {
            return Ok(false);
        }
        let units = (records.len() / UNIT) as u32;
        let Some(skip) = self.find(units)? else { return Ok(false) };
        self.skip(skip);
        self.ring.write(self.ring.offset(self.next) as usize * UNIT, records);
        self.next = self.next.plus(units, 0);
        Ok(true)
    }

    /// How many bytes of records [`write_records`](Self::write_records) has room for now.
    #[inline]
    pub(crate) fn room(&self) -> Result<usize, Damaged> {
        let head = self.ring.indices.head();
        if !self.is_possible(head) {
            return Err(OUTSIDE);
        }
        let free = self.ring.units() - self.next.units_since(head);
        let to_end = self.ring.units() - self.ring.offset(self.next);
        Ok(free.min(to_end).max(free.saturating_sub(to_end)) as usize * UNIT)
    }

    #[inline]
    fn skip(&mut self, units: u32) {
        if units > 0 {
            let offset = self.ring.offset(self.next) as usize * UNIT;
            let rest = units as usize * UNIT - HEADER;
            self.ring.write_word(offset, (rest as u64) << 2 | Kind::Skip as u64);
            self.next = self.next.plus(units, 0);
        }
    }

    /// Publishes what was written, and returns how many messages that is.
    #[inline]
    pub(crate) fn publish(&mut self) -> u32 {
        let count = self.next.messages_since(self.published);
        if self.next != self.published {
            self.ring.indices.publish(self.next);
            self.published = self.next;
        }
        count
    }
}

/// A record in the ring.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    /// In bytes.
    offset: usize,
    after: Index,
}

/// The consumer's side, for one or more messages that are taken together.
pub(crate) struct Reader<'a> {
    ring: Ring<'a>,
    taken: Index,
    next: Index,
    /// What was published when it was last looked at.
    tail: Index,
}

impl<'a> Reader<'a> {
    /// `tail` is an earlier tail of the ring, to save a look at the word that the other side
    /// writes.
    #[inline]
    pub(crate) fn new(ring: Ring<'a>, tail: Index) -> Self {
        let head = ring.indices.head();
        let reader = Self { ring, taken: head, next: head, tail };
        // What is remembered may be damaged, or of a consumer that died.
        if reader.is_possible(tail) { reader } else { Self { tail: head, ..reader } }
    }

    /// What was published when it was last looked at.
    #[inline]
    pub(crate) fn tail(&self) -> Index {
        self.tail
    }

    #[inline]
    fn is_possible(&self, tail: Index) -> bool {
        // What was passed over still counts: otherwise a producer that is out of order could
        // publish for as long as this consumer reads.
        tail.units_since(self.next).max(tail.units_since(self.taken)) <= self.ring.units()
    }

    /// Tells whether nothing was published that was not passed over.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.indices.tail().units_since(self.next) == 0
    }

    /// Appends all records that were published, as they stand in the ring, to `bytes`, and takes
    /// them. What is in them is not looked at.
    #[inline]
    pub(crate) fn take_all(&mut self, bytes: &mut Vec<u8>) -> Result<(), Damaged> {
        let tail = self.ring.indices.tail();
        if !self.is_possible(tail) {
            return Err(Damaged("the position of its producer is not in it"));
        }
        let length = tail.units_since(self.next) as usize * UNIT;
        let offset = self.ring.offset(self.next) as usize * UNIT;
        let to_end = length.min(self.ring.size - offset);
        self.ring.append(offset, to_end, bytes);
        self.ring.append(0, length - to_end, bytes);
        (self.tail, self.next) = (tail, tail);
        self.take();
        Ok(())
    }

    /// Looks for the next message; `None` if nothing was published that was not passed over.
    #[inline]
    pub(crate) fn find(&mut self) -> Result<Option<Record>, Damaged> {
        let mut skipped = false;
        loop {
            if self.tail.units_since(self.next) == 0 {
                let tail = self.ring.indices.tail();
                if !self.is_possible(tail) {
                    return Err(Damaged("the position of its producer is not in it"));
                }
                self.tail = tail;
                if tail.units_since(self.next) == 0 {
                    return Ok(None);
                }
            }
            let start = self.ring.offset(self.next);
            let offset = start as usize * UNIT;
            let word = self.ring.read_word(offset);
            let most = self.tail.units_since(self.next).min(self.ring.units() - start) as usize * UNIT - HEADER;
            let kind = match word & 3 {
                0 => Kind::Message,
                1 => Kind::Lane,
                2 if !skipped => Kind::Skip,
                _ => return Err(Damaged("a record is of no known kind")),
            };
            let length = match usize::try_from(word >> 2) {
                Ok(length) if length <= most => length,
                _ => return Err(Damaged("a record is longer than what was published")),
            };
            if kind == Kind::Skip {
                self.next = self.next.plus(units_of(length), 0);
                skipped = true;
                continue;
            }
            let after = self.next.plus(units_of(length), 1);
            return Ok(Some(Record { kind, length, offset: offset + HEADER, after }));
        }
    }

    /// Appends the bytes of a record, which [`find`](Self::find) has just returned, to `bytes`.
    #[inline]
    pub(crate) fn copy(&self, record: &Record, bytes: &mut Vec<u8>) {
        self.ring.append(record.offset, record.length, bytes);
    }

    /// Passes over a record, to be taken with the others.
    #[inline]
    pub(crate) fn pass(&mut self, record: &Record) {
        self.next = record.after;
    }

    /// How many messages were passed over and not taken.
    #[inline]
    pub(crate) fn passed(&self) -> u32 {
        self.next.messages_since(self.taken)
    }

    /// Takes what was passed over.
    #[inline]
    pub(crate) fn take(&mut self) {
        if self.next != self.taken {
            self.ring.indices.take(self.next);
            self.taken = self.next;
        }
    }
}

/// A record, as what a message is decoded from.
pub(crate) struct InRing<'a> {
    pub(crate) ring: Ring<'a>,
    pub(crate) record: Record,
}

impl Source for InRing<'_> {
    #[inline]
    fn read(&self, position: usize, to: &mut [u8]) {
        let from = self.ring.place(self.record.offset + position, to.len());
        // SAFETY: as in `Ring::read`, of memory that is initialised.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
    }

    #[inline]
    fn fill<'b>(&self, position: usize, to: &'b mut [MaybeUninit<u8>]) -> &'b mut [u8] {
        self.ring.read(self.record.offset + position, to)
    }
}
