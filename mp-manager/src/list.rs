//! `List`: values in order.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::change::Change;
use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::value::Value;
use crate::watch::{self, Iter, ListChange, Watch};
use crate::wire::{self, END, Initial, Operation, Place};

proxy! {
    /// A list in a server.
    ///
    /// Every method is one message to the server and one back, and is atomic. Indices are from 0.
    /// Other processes may insert and remove meanwhile, so an index may be another value's by the
    /// time that it is used.
    ///
    /// # Process death
    ///
    /// As for a [`Map`](crate::Map).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{List, Manager};
    ///
    /// #[process_fn]
    /// fn report(lines: List<String>, number: u32) {
    ///     lines.push(format!("worker {number} was here")).unwrap();
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let lines = List::new(&manager)?;
    /// for number in 0..2 {
    ///     report::spawn(lines.clone(), number)?.join()?;
    /// }
    /// assert_eq!(lines.snapshot()?, ["worker 0 was here", "worker 1 was here"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct List<T>;
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Makes an empty list in a server.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host) -> Result<Self, CallError> {
        Handle::create(host, Initial::List)
    }

    /// Returns the value at an index; `None` if the list is too short.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn get(&self, index: usize) -> Result<Option<T>, CallError> {
        self.handle.value(Operation::Get(Place::Index(index as u64)))
    }

    /// Replaces the value at an index, and returns the one that was there.
    ///
    /// # Errors
    ///
    /// [`CallError::OutOfBounds`] if the list is too short, and as [`get`](Self::get).
    pub fn set(&self, index: usize, value: T) -> Result<T, CallError> {
        self.handle.certain(Operation::Change(wire::Change::Put(Place::Index(index as u64), Value::encode(&value)?)))
    }

    /// Appends a value.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn push(&self, value: T) -> Result<(), CallError> {
        self.handle.change(wire::Change::Insert(END, Value::encode(&value)?))
    }

    /// Appends several values, in one message and all at once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). If one value cannot be encoded, none is appended.
    pub fn extend(&self, values: impl IntoIterator<Item = T>) -> Result<(), CallError> {
        let values = values.into_iter().map(|value| Ok(wire::Change::Insert(END, Value::encode(&value)?)));
        self.handle.call(Operation::Changes(values.collect::<Result<_, CallError>>()?))
    }

    /// Removes the last value and returns it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn pop(&self) -> Result<Option<T>, CallError> {
        self.handle.value(Operation::Change(wire::Change::Remove(Place::Index(END))))
    }

    /// Inserts a value at an index; the values from there on move up by one.
    ///
    /// # Errors
    ///
    /// [`CallError::OutOfBounds`] if the index is beyond the length, and as [`get`](Self::get).
    pub fn insert(&self, index: usize, value: T) -> Result<(), CallError> {
        self.handle.change(wire::Change::Insert(index as u64, Value::encode(&value)?))
    }

    /// Removes the value at an index and returns it; the values behind it move down by one.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn remove(&self, index: usize) -> Result<T, CallError> {
        self.handle.certain(Operation::Change(wire::Change::Remove(Place::Index(index as u64))))
    }

    /// Changes the value at an index by a function that runs in the server. See
    /// [`Map::modify`](crate::Map::modify). If the function returns `None`, the value is removed.
    ///
    /// # Errors
    ///
    /// As [`Map::modify`](crate::Map::modify), and [`CallError::OutOfBounds`].
    pub fn modify<F: Change<T>>(&self, index: usize, argument: F::Argument) -> Result<F::Result, CallError> {
        self.handle.modify::<T, F>(Place::Index(index as u64), &argument)
    }

    /// Returns the length.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn len(&self) -> Result<usize, CallError> {
        self.handle.call(Operation::Len)
    }

    /// Tells whether the list has no values.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|length| length == 0)
    }

    /// Returns all values of one instant.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn snapshot(&self) -> Result<Vec<T>, CallError> {
        self.iter()?.collect()
    }

    /// Returns an iterator over all values of one instant, which come in pieces of bounded length.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn iter(&self) -> Result<Iter<T>, CallError> {
        Iter::new(&self.handle, Operation::Entries, watch::value)
    }

    /// Follows the list: a snapshot, and then every change. See [`Watch`].
    ///
    /// # Errors
    ///
    /// As [`Map::watch`](crate::Map::watch).
    pub fn watch(&self) -> Result<Watch<ListChange<T>>, CallError> {
        Watch::new(&self.handle, watch::list_change)
    }

    /// Removes all values.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.change(wire::Change::Clear)
    }
}
