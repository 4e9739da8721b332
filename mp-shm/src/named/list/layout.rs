//! Where the parts of a list are in the memory.
//!
//! All numbers have 64 bits, in the byte order of the processor. `N` is the number of slots.
//!
//! | CPython 3.9 and later, and this library | CPython 3.8 |
//! |---|---|
//! | `N` | `N` |
//! | `N + 1` numbers: where each slot begins, from the beginning of the first; then the end of the last | `N` numbers: how long each slot is |
//! | the slots | the slots |
//! | `N` formats, 8 bytes each | the same |
//! | `N` codes, 1 byte each | the same |
//!
//! The second number distinguishes them: the first slot begins at 0, and no slot is 0 bytes long.
//! An empty list has 16 bytes or more in the newer format, and 8 in the older one.
//!
//! Another process can write anything to the memory at any time. What is read here is checked and
//! kept. What is read later, the offset of a slot, is checked each time. So each access stays
//! within its part of the memory.

use super::slot::FORMAT;
use super::window::{Window, word};
use super::{ShareableListError as Error, SharedMemory};

const WORD: usize = 8;

/// The offsets of the slots, formats and codes, in bytes.
pub(super) struct Layout {
    pub(super) len: usize,
    slots: usize,
    formats: usize,
    codes: usize,
    /// Where each slot begins and the last one ends, if the list itself does not contain that.
    summed: Option<Vec<usize>>,
}

impl Layout {
    /// Returns the layout and the size of a new list whose slots have these lengths in all.
    pub(super) fn with(len: usize, data: usize) -> Option<(Self, usize)> {
        let slots = len.checked_add(2)?.checked_mul(WORD)?;
        let formats = slots.checked_add(data)?;
        let codes = formats.checked_add(len.checked_mul(FORMAT)?)?;
        let size = codes.checked_add(len)?;
        Some((Self { len, slots, formats, codes, summed: None }, size))
    }

    /// Reads the layout from the memory.
    pub(super) fn of(memory: &SharedMemory) -> Result<Self, Error> {
        let not_a_list = |reason| Error::NotAList { name: memory.name().to_owned(), reason };
        let number_at = |offset| {
            let mut bytes = [0; WORD];
            memory
                .read_at(offset, &mut bytes)
                .map(|()| usize::try_from(u64::from_ne_bytes(bytes)).unwrap_or(usize::MAX))
        };
        if memory.size() < WORD {
            return Err(not_a_list("it is too short"));
        }
        let len = number_at(0)?;
        if len == 0 && memory.size() < 2 * WORD {
            // An empty list of 3.8 has no parts.
            return Ok(Self { len, slots: WORD, formats: WORD, codes: WORD, summed: Some(vec![0]) });
        }
        // The smallest possible size.
        let (least, size) = Self::with(len, 0).ok_or_else(|| not_a_list("its length is impossible"))?;
        if size - WORD > memory.size() {
            return Err(not_a_list("it is too short for its length"));
        }
        let layout = match number_at(WORD)? {
            0 => Self::with(len, number_at(least.slots - WORD)?).map(|(layout, _)| layout),
            _ => Self::of_sizes(memory, len)?,
        };
        let layout = layout.ok_or_else(|| not_a_list("the lengths of its slots are impossible"))?;
        match layout.codes.checked_add(len) {
            Some(end) if end <= memory.size() => Ok(layout),
            _ => Err(not_a_list("it is too short for its slots")),
        }
    }

    /// Adds up the lengths of the slots of CPython 3.8.
    fn of_sizes(memory: &SharedMemory, len: usize) -> Result<Option<Self>, Error> {
        let mut window = Window::ahead(memory);
        let mut begins = Vec::new();
        let mut end = 0_usize;
        for index in 0..=len {
            // The vector grows with the lengths that are read, not with `len`, because unwritten
            // memory ends the loop: its lengths are 0.
            begins.try_reserve(1)?;
            begins.push(end);
            if index == len {
                break;
            }
            let size = word(window.read(WORD + index * WORD, WORD, WORD + len * WORD)?);
            match size.and_then(|size| end.checked_add(size).filter(|_| size > 0)) {
                Some(sum) => end = sum,
                None => return Ok(None),
            }
        }
        let slots = WORD + len * WORD;
        let codes = |formats: usize| formats.checked_add(len * FORMAT);
        Ok(slots
            .checked_add(end)
            .and_then(|formats| Some(Self { len, slots, formats, codes: codes(formats)?, summed: Some(begins) })))
    }

    /// Returns where a slot begins and ends, from the beginning of the memory. `offsets` reads it
    /// from the list.
    pub(super) fn slot(&self, index: usize, offsets: &mut Window<'_>) -> Result<(usize, usize), Error> {
        let bounds = match &self.summed {
            Some(begins) => [begins.get(index).copied(), begins.get(index + 1).copied()],
            None => {
                let both = offsets.read(WORD + index * WORD, 2 * WORD, self.slots)?;
                [word(both), both.get(WORD..).and_then(word)]
            }
        };
        let all = self.formats - self.slots;
        match bounds {
            [Some(begin), Some(end)] if begin <= end && end <= all => Ok((self.slots + begin, self.slots + end)),
            _ => Err(Error::BadSlot { index, reason: "it is not inside the list" }),
        }
    }

    /// Returns where the last slot ends.
    pub(super) fn end_of_slots(&self) -> usize {
        self.formats
    }

    pub(super) fn format(&self, index: usize) -> usize {
        self.formats + index * FORMAT
    }

    pub(super) fn code(&self, index: usize) -> usize {
        self.codes + index
    }

    pub(super) fn end_of_codes(&self) -> usize {
        self.codes + self.len
    }

    pub(super) fn end_of_formats(&self) -> usize {
        self.codes
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }
}
