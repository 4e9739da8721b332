//! Reading one slot or all.

use std::fmt;
use std::iter::FusedIterator;

use super::item::Item;
use super::layout::Layout;
use super::slot::{FORMAT, Shape};
use super::window::Window;
use super::{ShareableListError as Error, SharedMemory};

/// Reads the parts of a list, each through a window of its own.
pub(super) struct Reader<'a> {
    layout: &'a Layout,
    offsets: Window<'a>,
    slots: Window<'a>,
    formats: Window<'a>,
    codes: Window<'a>,
}

impl<'a> Reader<'a> {
    /// `window` says how far ahead each part is read.
    pub(super) fn new(
        memory: &'a SharedMemory,
        layout: &'a Layout,
        window: impl Fn(&'a SharedMemory) -> Window<'a>,
    ) -> Self {
        let [offsets, slots, formats, codes] = [(); 4].map(|()| window(memory));
        Self { layout, offsets, slots, formats, codes }
    }

    /// Returns where a slot begins and ends.
    pub(super) fn bounds(&mut self, index: usize) -> Result<(usize, usize), Error> {
        self.layout.slot(index, &mut self.offsets)
    }

    /// Returns the format of a slot, with the NULs after it.
    pub(super) fn format(&mut self, index: usize) -> Result<[u8; FORMAT], Error> {
        let bytes = self.formats.read(self.layout.format(index), FORMAT, self.layout.end_of_formats())?;
        bytes.first_chunk().copied().ok_or(Error::BadSlot { index, reason: "its format is missing" })
    }

    pub(super) fn code(&mut self, index: usize) -> Result<u8, Error> {
        Ok(self.codes.read(self.layout.code(index), 1, self.layout.end_of_codes())?[0])
    }

    /// Returns the value of a slot whose index was checked.
    pub(super) fn item(&mut self, index: usize) -> Result<Item, Error> {
        let bad = |reason| Error::BadSlot { index, reason };
        let format = self.format(index)?;
        let code = self.code(index)?;
        let shape = Shape::new(&format, code).map_err(bad)?;
        let (begin, end) = self.bounds(index)?;
        if shape.length() > end - begin {
            return Err(bad("its format is longer than it is"));
        }
        let bytes = self.slots.read(begin, shape.length(), self.layout.end_of_slots())?;
        shape.decode(bytes).map_err(bad)
    }
}

/// Iterates over the values of a [`ShareableList`](crate::ShareableList), as
/// [`ShareableList::iter`](crate::ShareableList::iter) returns it.
///
/// After an error of one slot, the next slots follow. After an error of the memory itself, the
/// iterator ends.
pub struct Items<'a> {
    reader: Reader<'a>,
    next: usize,
    end: usize,
}

impl<'a> Items<'a> {
    pub(super) fn new(memory: &'a SharedMemory, layout: &'a Layout) -> Self {
        Self { reader: Reader::new(memory, layout, Window::ahead), next: 0, end: layout.len }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let item = self.reader.item(self.next);
        self.next += 1;
        if let Err(Error::Memory(_) | Error::OutOfMemory(_)) = item {
            self.next = self.end;
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The iterator can end after one error.
        let left = self.end - self.next;
        (left.min(1), Some(left))
    }
}

impl FusedIterator for Items<'_> {}

impl fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}
