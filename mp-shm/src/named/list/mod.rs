//! A list in named memory, compatible with CPython's.

mod error;
mod fill;
mod item;
mod iter;
mod layout;
mod slot;
mod window;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::fill::Filler;
use self::iter::Reader;
use self::layout::Layout;
use self::slot::{Encoded, LARGEST_ROOM, Refusal, UNIT};
use self::window::Window;
use super::memory::SharedMemory;
use crate::sys::named;
pub use error::ShareableListError;
pub use item::Item;
pub use iter::Items;

use self::ShareableListError as Error;

/// A list of fixed length in [named memory](SharedMemory), compatible with Python's
/// `multiprocessing.shared_memory.ShareableList`.
///
/// A slot contains `None`, a `bool`, an `int`, a `float`, a `str` or `bytes`. Its length is fixed
/// when the list is created: 8 bytes for numbers, and 8·(n/8+1) for `n` bytes of text, which is one
/// to eight bytes more than it needs. A slot can be set to a value of another kind if that fits.
///
/// The layout is that of CPython 3.9 and later, byte for byte, and each can open the other's lists.
/// This library can also open a list of CPython 3.8, which has another layout; CPython 3.8 cannot
/// open a list of this library.
///
/// There are no locks. Reading a slot while another process sets it can return a mixture or an
/// error, as in Python. Reading copies the value and never returns a reference into the memory. If
/// another process writes garbage there, reading returns an error at worst.
///
/// **NULs at the end** of a `str` or `bytes` are lost when Python reads or writes the value.
/// Between programs in Rust they are kept, up to a length of 999,999 bytes; beyond that, setting
/// the value is an [error](Error::TrailingNul).
///
/// When Python creates a list, it computes the length of a slot from the number of characters of a
/// `str`, not from its bytes. So a slot can be too short for text outside of ASCII. Python cuts
/// such a text off, and the rest may not be UTF-8, which is an error in both languages.
///
/// # Speed
///
/// [`iter`](Self::iter), [`index`](Self::index) and [`count`](Self::count) read in blocks and take
/// time proportional to the length. [`get`](Self::get) and [`set`](Self::set) make a few system
/// calls each, however long the list is.
///
/// # Process death
///
/// As for the [memory](SharedMemory#process-death). A process that is killed in [`set`](Self::set)
/// leaves that slot with a mixture, or so that reading it is an error.
///
/// # Examples
///
/// ```
/// use mp_shm::{Item, ShareableList};
///
/// let list = ShareableList::new([Item::from("spam"), Item::from(7), Item::from(None::<bool>)])?;
/// list.set(1, 2.5)?;
///
/// // Elsewhere; in Python, `ShareableList(name=name)`.
/// let opened = ShareableList::open(list.name())?;
/// assert_eq!(opened.get(0)?, Item::Str("spam".to_owned()));
/// assert_eq!(opened.iter().collect::<Result<Vec<_>, _>>()?, ["spam".into(), 2.5.into(), Item::None]);
/// assert!(opened.set(0, "more than seven letters").is_err());
/// # Ok::<(), mp_shm::ShareableListError>(())
/// ```
pub struct ShareableList {
    memory: SharedMemory,
    layout: Layout,
}

impl ShareableList {
    /// Creates a list of these values, under a random name.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn new<I: IntoIterator<Item: Into<Item>>>(items: I) -> Result<Self, Error> {
        Self::create(None, items)
    }

    /// Creates a list of these values, under a name that is not in use.
    ///
    /// The list appears under its name with all its values. Meanwhile this process needs memory for
    /// two copies of them.
    ///
    /// # Errors
    ///
    /// - [`TooLong`](Error::TooLong): a value is longer than 9,999,991 bytes;
    ///   [`TrailingNul`](Error::TrailingNul);
    /// - [`TooLarge`](Error::TooLarge), [`OutOfMemory`](Error::OutOfMemory);
    /// - [`Memory`](Error::Memory): an error of [`SharedMemory::create`].
    pub fn create<'a, I: IntoIterator<Item: Into<Item>>>(
        name: impl Into<Option<&'a str>>,
        items: I,
    ) -> Result<Self, Error> {
        let items: Vec<Item> = items.into_iter().map(Into::into).collect();
        let data = items.iter().try_fold(0, |sum: usize, item| sum.checked_add(slot::room_for(item)));
        let (layout, size) = data.and_then(|data| Layout::with(items.len(), data)).ok_or(Error::TooLarge)?;
        let bytes = image(&items, &layout, size)?;
        let memory = SharedMemory::create_filled(name.into(), size, |file| {
            named::write_parts(file, &[(0, &bytes)], size as u64)
        })?;
        Ok(Self { memory, layout })
    }

    /// Opens the list of that name.
    ///
    /// # Errors
    ///
    /// [`NotAList`](Error::NotAList); [`OutOfMemory`](Error::OutOfMemory);
    /// [`Memory`](Error::Memory): an error of [`SharedMemory::open`].
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::of(SharedMemory::open(name)?)
    }

    fn of(memory: SharedMemory) -> Result<Self, Error> {
        let layout = Layout::of(&memory)?;
        Ok(Self { memory, layout })
    }

    /// Returns the number of slots.
    pub fn len(&self) -> usize {
        self.layout.len
    }

    /// Tells whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the value of a slot. The first one is 0.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](Error::OutOfBounds), [`BadSlot`](Error::BadSlot),
    /// [`OutOfMemory`](Error::OutOfMemory), [`Memory`](Error::Memory).
    pub fn get(&self, index: usize) -> Result<Item, Error> {
        self.check(index)?;
        Reader::new(&self.memory, &self.layout, Window::exact).item(index)
    }

    /// Sets a slot to a value of any kind that fits in it.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](Error::OutOfBounds), [`TooLong`](Error::TooLong),
    /// [`TrailingNul`](Error::TrailingNul), and [`BadSlot`](Error::BadSlot) if the offset of the
    /// slot is not valid. The slot is unchanged then. [`Memory`](Error::Memory).
    pub fn set(&self, index: usize, item: impl Into<Item>) -> Result<(), Error> {
        self.check(index)?;
        let item = item.into();
        let mut reader = Reader::new(&self.memory, &self.layout, Window::exact);
        let (begin, end) = reader.bounds(index)?;
        let room = end - begin;
        let encoded = encode(&item, room)?;
        let mut padded = Vec::new();
        let mut bytes = encoded.bytes();
        if encoded.is_padded() && bytes.len() < room {
            // The rest of the slot must not contain the old value.
            padded.try_reserve_exact(room)?;
            padded.extend_from_slice(bytes);
            padded.resize(room, 0);
            bytes = &padded;
        }
        // Usually it is unchanged, and reading is cheaper than writing.
        if (reader.format(index)?, reader.code(index)?) == (encoded.format, encoded.code) {
            self.memory.write_at(begin, bytes)?;
        } else {
            let format = (self.layout.format(index), &encoded.format[..]);
            let code = (self.layout.code(index), &[encoded.code][..]);
            self.memory.write_parts(&[(begin, bytes), format, code])?;
        }
        Ok(())
    }

    /// Sets the slots from `first` on to these values, in blocks of 64 KiB. For many values it
    /// costs a fraction of what [`set`](Self::set) costs.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set), for the first slot that cannot be set. The slots before it are
    /// set; after [`Memory`](Error::Memory), the last block of them may not be.
    /// [`OutOfBounds`](Error::OutOfBounds) if there are more values than slots.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_shm::{Item, ShareableList};
    ///
    /// let list = ShareableList::new((0..1000).map(|_| 0))?;
    /// list.set_from(10, 10..1000)?;
    /// assert_eq!(list.get(999)?, Item::Int(999));
    /// # Ok::<(), mp_shm::ShareableListError>(())
    /// ```
    pub fn set_from<I: IntoIterator<Item: Into<Item>>>(&self, first: usize, items: I) -> Result<(), Error> {
        let mut filler = Filler::new(&self.memory, &self.layout, first);
        let result = items.into_iter().try_for_each(|item| filler.push(&item.into()));
        match (result, filler.flush()) {
            (Ok(()), flushed) => flushed,
            (Err(error), _) => Err(error),
        }
    }

    fn check(&self, index: usize) -> Result<(), Error> {
        if index < self.len() { Ok(()) } else { Err(Error::OutOfBounds { index, len: self.len() }) }
    }

    /// Iterates over the values. It reads ahead, 64 KiB or one value, so it may miss a value that
    /// is set meanwhile.
    pub fn iter(&self) -> Items<'_> {
        Items::new(&self.memory, &self.layout)
    }

    /// Returns the index of the first slot with this value, or `None`.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), for the first slot that cannot be read, unless the value is found
    /// before it.
    pub fn index(&self, item: &Item) -> Result<Option<usize>, Error> {
        for (index, each) in self.iter().enumerate() {
            if each? == *item {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Returns the number of slots with this value.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), for the first slot that cannot be read.
    pub fn count(&self, item: &Item) -> Result<usize, Error> {
        self.iter().try_fold(0, |count, each| Ok(count + usize::from(each? == *item)))
    }

    /// Returns the formats of all slots in the notation of Python's `struct`, like Python's
    /// attribute `format`.
    ///
    /// # Errors
    ///
    /// [`BadSlot`](Error::BadSlot) if a format is not text, [`OutOfMemory`](Error::OutOfMemory),
    /// [`Memory`](Error::Memory).
    pub fn format(&self) -> Result<String, Error> {
        let mut reader = Reader::new(&self.memory, &self.layout, Window::ahead);
        let mut all = String::new();
        for index in 0..self.len() {
            let format = reader.format(index)?;
            let format = std::str::from_utf8(slot::trimmed(&format));
            let format = format.map_err(|_| Error::BadSlot { index, reason: "its format is unknown" })?;
            all.try_reserve(format.len())?;
            all.push_str(format);
        }
        Ok(all)
    }

    /// Returns the name of the memory, without a leading slash.
    pub fn name(&self) -> &str {
        self.memory.name()
    }

    /// Returns the memory that contains the list, like Python's attribute `shm`.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Removes the name: see [`SharedMemory::unlink`].
    ///
    /// # Errors
    ///
    /// [`Memory`](Error::Memory).
    pub fn unlink(&self) -> Result<(), Error> {
        Ok(self.memory.unlink()?)
    }

    /// Keeps the list under its name when this value is dropped: see [`SharedMemory::keep`].
    ///
    /// # Errors
    ///
    /// [`Memory`](Error::Memory).
    pub fn keep(&mut self) -> Result<(), Error> {
        Ok(self.memory.keep()?)
    }
}

/// Returns all bytes of a new list.
fn image(items: &[Item], layout: &Layout, size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size)?;
    bytes.resize(size, 0);
    bytes[..UNIT].copy_from_slice(&(items.len() as u64).to_ne_bytes());
    let mut begin = 0;
    for (index, item) in items.iter().enumerate() {
        let room = slot::room_for(item);
        let encoded = encode(item, room)?;
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(layout.slots() + begin, encoded.bytes());
        put(layout.format(index), &encoded.format);
        put(layout.code(index), &[encoded.code]);
        begin += room;
        put((index + 2) * UNIT, &(begin as u64).to_ne_bytes());
    }
    Ok(bytes)
}

fn encode(item: &Item, room: usize) -> Result<Encoded<'_>, Error> {
    let length = slot::length(item);
    Encoded::new(item, room).map_err(|refusal| match refusal {
        Refusal::TooLong => Error::TooLong { length, room: if room > LARGEST_ROOM { LARGEST_ROOM - 1 } else { room } },
        Refusal::TrailingNul => Error::TrailingNul { length },
    })
}

impl<'a> IntoIterator for &'a ShareableList {
    type Item = Result<Item, Error>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl Serialize for ShareableList {
    /// Encodes the list as [`SharedMemory`] does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ShareableList {
    /// Decodes the list as [`SharedMemory`] does. It is an error if the memory does not contain a
    /// list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(SharedMemory::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareableList").field("name", &self.name()).field("len", &self.len()).finish_non_exhaustive()
    }
}
