//! Reading slots, one or all.

use std::fmt;
use std::iter::FusedIterator;

use super::item::Item;
use super::layout::Layout;
use super::slot::{FORMAT, Shape};
use super::window::Window;
use super::{ShareableListError as Error, SharedMemory};

/// The parts of a list, each read by itself.
pub(super) struct Reader<'a> {
    layout: &'a Layout,
    offsets: Window<'a>,
    slots: Window<'a>,
    formats: Window<'a>,
    codes: Window<'a>,
}

impl<'a> Reader<'a> {
    /// `window` says how far ahead they are read.
    pub(super) fn new(
        memory: &'a SharedMemory,
        layout: &'a Layout,
        window: impl Fn(&'a SharedMemory) -> Window<'a>,
    ) -> Self {
        let [offsets, slots, formats, codes] = [(); 4].map(|()| window(memory));
        Self { layout, offsets, slots, formats, codes }
    }

    /// Where a slot begins and ends.
    pub(super) fn bounds(&mut self, index: usize) -> Result<(usize, usize), Error> {
        self.layout.slot(index, &mut self.offsets)
    }

    /// The format of a slot, with NULs behind it.
    pub(super) fn format(&mut self, index: usize) -> Result<[u8; FORMAT], Error> {
        let bytes = self.formats.read(self.layout.format(index), FORMAT, self.layout.end_of_formats())?;
        bytes.first_chunk().copied().ok_or(Error::BadSlot { index, reason: "its format is missing" })
    }

    pub(super) fn code(&mut self, index: usize) -> Result<u8, Error> {
        Ok(self.codes.read(self.layout.code(index), 1, self.layout.end_of_codes())?[0])
    }

    /// The value of a slot whose number was checked.
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

/// The values of a [`ShareableList`](crate::ShareableList), in order:
/// [`ShareableList::iter`](crate::ShareableList::iter).
///
/// A slot that holds no value is an error, and the next ones follow. When the memory itself cannot
/// be read, the error is the last.
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
        // One error can be the end.
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
