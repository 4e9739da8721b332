//! Following an object, and reading it in pieces.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::vec;

use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::handle::{Handle, unexpected};
use crate::value::Entry;
use crate::wire::{Body, Change, Operation, Page, Place};

/// What a watcher is told.
#[derive(Debug)]
pub(crate) enum News {
    Snapshot(Vec<Entry>),
    Change(Change),
}

/// Follows the changes of a [`Map`](crate::Map), a [`List`](crate::List) or a
/// [`Cell`](crate::Cell), as an iterator that waits for the next one.
///
/// What comes first is a snapshot of one instant, and then every change after it, in order. If a
/// process is too slow, the server does not keep the changes for it: the next one is a new snapshot
/// then. It keeps 1,024 changes or 1 MiB of them, whichever is less.
///
/// After an error, what comes next is a snapshot, if the server still serves. After
/// [`CallError::Disconnected`] and [`CallError::Forked`] the iterator ends.
///
/// # Process death
///
/// If the process dies, the server keeps nothing for it. If the server dies, a waiting call fails
/// at once.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_manager::{Manager, Map, MapChange};
///
/// #[process_fn]
/// fn fill(squares: Map<u64, u64>) {
///     for number in 0..3 {
///         squares.insert(number, number * number).unwrap();
///     }
/// }
///
/// let manager = Manager::spawn()?;
/// let squares = Map::new(&manager)?;
/// let mut changes = squares.watch()?;
/// let child = fill::spawn(squares.clone())?;
/// assert_eq!(changes.next(), Some(Ok(MapChange::Snapshot(Vec::new()))));
/// assert_eq!(changes.next(), Some(Ok(MapChange::Set(0, 0))));
/// assert_eq!(changes.next(), Some(Ok(MapChange::Set(1, 1))));
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Watch<C> {
    handle: Handle,
    /// Chosen here; no other watch of this process has it.
    number: u64,
    news: VecDeque<News>,
    decode: fn(News) -> Result<C, CallError>,
    ended: bool,
}

fn fresh_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

impl<C> Watch<C> {
    pub(crate) fn new(handle: &Handle, decode: fn(News) -> Result<C, CallError>) -> Result<Self, CallError> {
        let number = fresh_number();
        let mut watch = Self { handle: handle.clone(), number, news: VecDeque::new(), decode, ended: false };
        watch.ask(Some(Duration::ZERO)).map(|()| watch)
    }

    fn ask(&mut self, timeout: Option<Duration>) -> Result<(), CallError> {
        let told = self.handle.wait(timeout, Operation::Watch(self.number)).and_then(|told| match told {
            Ok(page) => Ok(vec![News::Snapshot(Iter::of_page(&self.handle, page, Ok)?.collect::<Result<_, _>>()?)]),
            Err(changes) => Ok(changes.into_iter().map(News::Change).collect()),
        });
        if told.is_err() {
            // The server may have told this one something that did not arrive.
            self.handle.post(Operation::Unwatch(self.number));
            self.number = fresh_number();
        }
        told.map(|news| self.news.extend(news))
    }

    /// Waits for the next change, for `timeout` at most; `None` if there was none.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<C>, CallError> {
        if self.news.is_empty() {
            self.ask(Some(timeout))?;
        }
        self.news.pop_front().map(self.decode).transpose()
    }

    /// Returns the next change, if there is one.
    ///
    /// # Errors
    ///
    /// As [`next_timeout`](Self::next_timeout).
    pub fn try_next(&mut self) -> Result<Option<C>, CallError> {
        self.next_timeout(Duration::ZERO)
    }
}

impl<C> Iterator for Watch<C> {
    type Item = Result<C, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        while self.news.is_empty() {
            if let Err(error) = self.ask(None) {
                self.ended = matches!(error, CallError::Disconnected { .. } | CallError::Forked);
                return Some(Err(error));
            }
        }
        self.news.pop_front().map(self.decode)
    }
}

impl<C> Drop for Watch<C> {
    fn drop(&mut self) {
        self.handle.post(Operation::Unwatch(self.number));
    }
}

/// A change of a [`Map`](crate::Map): see [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapChange<K, V> {
    /// All entries of one instant.
    Snapshot(Vec<(K, V)>),
    /// A key, which may be new, has this value.
    Set(K, V),
    /// A key was removed.
    Removed(K),
    /// All keys were removed.
    Cleared,
}

/// A change of a [`List`](crate::List): see [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListChange<T> {
    /// All values of one instant.
    Snapshot(Vec<T>),
    /// The value at an index was replaced by this one.
    Set(usize, T),
    /// A value was inserted at an index, which may be the end.
    Inserted(usize, T),
    /// The value at an index was removed.
    Removed(usize),
    /// All values were removed.
    Cleared,
}

pub(crate) fn entry<K: DeserializeOwned, V: DeserializeOwned>((key, value): Entry) -> Result<(K, V), CallError> {
    Ok((key.decode()?, value.decode()?))
}

pub(crate) fn value<T: DeserializeOwned>((_, value): Entry) -> Result<T, CallError> {
    value.decode()
}

pub(crate) fn map_change<K: DeserializeOwned, V: DeserializeOwned>(news: News) -> Result<MapChange<K, V>, CallError> {
    Ok(match news {
        News::Snapshot(entries) => MapChange::Snapshot(entries.into_iter().map(entry).collect::<Result<_, _>>()?),
        News::Change(Change::Put(Place::Key(key), value)) => MapChange::Set(key.decode()?, value.decode()?),
        News::Change(Change::Remove(Place::Key(key))) => MapChange::Removed(key.decode()?),
        News::Change(Change::Clear) => MapChange::Cleared,
        News::Change(_) => return Err(unexpected(Body::Done)),
    })
}

pub(crate) fn list_change<T: DeserializeOwned>(news: News) -> Result<ListChange<T>, CallError> {
    Ok(match news {
        News::Snapshot(entries) => ListChange::Snapshot(entries.into_iter().map(value).collect::<Result<_, _>>()?),
        News::Change(Change::Put(Place::Index(index), value)) => ListChange::Set(index as usize, value.decode()?),
        News::Change(Change::Insert(index, value)) => ListChange::Inserted(index as usize, value.decode()?),
        News::Change(Change::Remove(Place::Index(index))) => ListChange::Removed(index as usize),
        News::Change(Change::Clear) => ListChange::Cleared,
        News::Change(_) => return Err(unexpected(Body::Done)),
    })
}

pub(crate) fn cell_change<T: DeserializeOwned>(news: News) -> Result<T, CallError> {
    match news {
        News::Snapshot(mut entries) => match entries.pop() {
            Some(entry) => value(entry),
            None => Err(unexpected(Body::Done)),
        },
        News::Change(Change::Put(Place::Whole, value)) => value.decode(),
        News::Change(_) => Err(unexpected(Body::Done)),
    }
}

/// Reads what a [`Map`](crate::Map) or a [`List`](crate::List) held at one instant, in pieces of
/// bounded length, as an iterator.
///
/// What does not fit into the first piece is an object of its own in the server, and goes with this
/// value. Its values are those of the map or list, not copies. After an error the iterator ends.
#[derive(Debug)]
pub struct Iter<T> {
    piece: vec::IntoIter<Entry>,
    rest: Option<Handle>,
    /// How many values of the rest have come.
    from: u64,
    decode: fn(Entry) -> Result<T, CallError>,
}

impl<T> Iter<T> {
    pub(crate) fn new(
        of: &Handle,
        operation: Operation,
        decode: fn(Entry) -> Result<T, CallError>,
    ) -> Result<Self, CallError> {
        Self::of_page(of, of.call(operation)?, decode)
    }

    fn of_page(of: &Handle, page: Page, decode: fn(Entry) -> Result<T, CallError>) -> Result<Self, CallError> {
        let rest = page.rest.map(|lease| of.beside(lease)).transpose()?;
        Ok(Self { piece: page.entries.into_iter(), rest, from: 0, decode })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, CallError> {
        if let (0, Some(rest)) = (self.piece.len(), &self.rest) {
            let page: Page = rest.call(Operation::Piece(self.from))?;
            self.from += page.entries.len() as u64;
            self.piece = page.entries.into_iter();
        }
        Ok(self.piece.next())
    }
}

impl<T> Iterator for Iter<T> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().and_then(|entry| entry.map(self.decode).transpose()).transpose();
        if !matches!(next, Some(Ok(_))) {
            (self.piece, self.rest) = (Vec::new().into_iter(), None);
        }
        next
    }
}
