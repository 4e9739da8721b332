//! `Cell`: one value.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::change::Change;
use crate::error::CallError;
use crate::handle::{Handle, Host, proxy, unexpected};
use crate::value::Value;
use crate::watch::{self, Watch};
use crate::wire::{self, Body, Initial, Operation, Place};

proxy! {
    /// One value in a server. A struct in a `Cell` is what Python's `Namespace` and `Value` are.
    ///
    /// Every method is one message to the server and one back, and is atomic.
    ///
    /// # Process death
    ///
    /// As for a [`Map`](crate::Map).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Cell, Manager};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Progress {
    ///     done: u64,
    ///     last: String,
    /// }
    ///
    /// #[process_fn]
    /// fn finish(old: Option<Progress>, name: String) -> (Option<Progress>, u64) {
    ///     let done = old.map_or(0, |progress| progress.done) + 1;
    ///     (Some(Progress { done, last: name }), done)
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let progress = Cell::new(&manager, Progress { done: 0, last: String::new() })?;
    /// assert_eq!(progress.modify::<finish>("first".to_owned())?, 1);
    /// assert_eq!(progress.get()?.last, "first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Cell<T>;
}

impl<T: Serialize + DeserializeOwned> Cell<T> {
    /// Puts a value into a server.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new), and [`CallError::Encode`].
    pub fn new(host: &impl Host, value: T) -> Result<Self, CallError> {
        Handle::create(host, Initial::Cell(Value::encode(&value)?))
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn get(&self) -> Result<T, CallError> {
        self.handle.certain(Operation::Get(Place::Whole))
    }

    /// Replaces the value, and returns the one that was there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn replace(&self, value: T) -> Result<T, CallError> {
        self.handle.certain(Operation::Change(wire::Change::Put(Place::Whole, Value::encode(&value)?)))
    }

    /// Replaces the value. The old one is not decoded.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn set(&self, value: T) -> Result<(), CallError> {
        self.handle.change(wire::Change::Put(Place::Whole, Value::encode(&value)?))
    }

    /// Follows the cell: its value, and then every one that it gets. See [`Watch`].
    ///
    /// # Errors
    ///
    /// As [`Map::watch`](crate::Map::watch).
    pub fn watch(&self) -> Result<Watch<T>, CallError> {
        Watch::new(&self.handle, watch::cell_change)
    }

    /// Changes the value by a function that runs in the server. See
    /// [`Map::modify`](crate::Map::modify). The old value is always there. If the function returns
    /// `None`, the value stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Map::modify`](crate::Map::modify).
    pub fn modify<F: Change<T>>(&self, argument: F::Argument) -> Result<F::Result, CallError> {
        self.handle.modify::<T, F>(Place::Whole, &argument)
    }

    /// Replaces the value by `new` if it is `old`. Otherwise the inner error holds the value. See
    /// [`Map::compare_exchange`](crate::Map::compare_exchange).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn compare_exchange(&self, old: T, new: T) -> Result<Result<(), T>, CallError> {
        match self.handle.compare_exchange(Place::Whole, Some(&old), Some(&new))? {
            Ok(()) => Ok(Ok(())),
            Err(found) => found.map(Err).ok_or_else(|| unexpected(Body::Done)),
        }
    }
}
