//! `Map`: keys and values.

use std::borrow::Borrow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::change::Change;
use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::value::{Key, Value};
use crate::watch::{self, Iter, MapChange, Watch};
use crate::wire::{self, Initial, Operation, Place};

proxy! {
    /// A map in a server, with its entries in the order in which their keys were first inserted.
    ///
    /// Every method is one message to the server and one back, and is atomic: no other call sees a
    /// part of it. What reads a value and then writes it in two calls is not. Use
    /// [`modify`](Self::modify), [`compare_exchange`](Self::compare_exchange) or
    /// [`get_or_insert`](Self::get_or_insert) for that.
    ///
    /// Keys are equal if their encoded bytes are, whatever their `Eq` says. A key cannot contain
    /// descriptors, and its encoded form is at most 1 MiB long. A value can be anything that an
    /// argument of a process function can be, proxies and files included.
    ///
    /// # Process death
    ///
    /// If a process that uses the map dies, its last call has had its effect, or not, as a whole.
    /// If the server dies, the map is lost, and every call fails with [`CallError::Disconnected`].
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Manager, Map};
    ///
    /// #[process_fn]
    /// fn count(old: Option<u64>, by: u64) -> (Option<u64>, u64) {
    ///     let new = old.unwrap_or(0) + by;
    ///     (Some(new), new)
    /// }
    ///
    /// #[process_fn]
    /// fn work(words: Map<String, u64>) {
    ///     for word in ["to", "be", "or", "not", "to", "be"] {
    ///         words.modify::<count>(word, 1).unwrap();
    ///     }
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let words = Map::new(&manager)?;
    /// let children = [work::spawn(words.clone())?, work::spawn(words.clone())?];
    /// for child in children {
    ///     child.join()?;
    /// }
    /// assert_eq!(words.get("be")?, Some(4));
    /// assert_eq!(words.keys()?, ["to", "be", "or", "not"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Map<K, V>;
}

fn place<T: Serialize + ?Sized>(of: &T) -> Result<Place, CallError> {
    Key::encode(of).map(Place::Key)
}

fn put(of: &impl Serialize, value: &impl Serialize) -> Result<wire::Change, CallError> {
    Ok(wire::Change::Put(place(of)?, Value::encode(value)?))
}

/// What a key of a [`Map`] is found by: a `K`, or what it borrows as, such as `str` for a `String`.
///
/// Every such type implements it. It is there because the function of [`Map::modify`] is named like
/// a type parameter, and so no other one can be.
pub trait KeyOf<K>: Serialize {}

impl<K: Borrow<Q>, Q: Serialize + ?Sized> KeyOf<K> for Q {}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Map<K, V> {
    /// Makes an empty map in a server.
    ///
    /// # Errors
    ///
    /// [`CallError::Busy`] if the server has no descriptor free, [`CallError::Disconnected`] if it
    /// has ended.
    pub fn new(host: &impl Host) -> Result<Self, CallError> {
        Handle::create(host, Initial::Map)
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn get<Q: Serialize + ?Sized>(&self, of: &Q) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
    {
        self.handle.value(Operation::Get(place(of)?))
    }

    /// Returns the values of several keys, all of one instant.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Vec<Option<V>>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized + 'a,
    {
        let keys = keys.into_iter().map(Key::encode).collect::<Result<_, _>>()?;
        let values: Vec<Option<Value>> = self.handle.call(Operation::GetMany(keys))?;
        values.into_iter().map(|value| value.map(Value::decode).transpose()).collect()
    }

    /// Inserts a value and returns the one that the key had before.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). Nothing was inserted after [`CallError::Encode`].
    pub fn insert(&self, of: K, value: V) -> Result<Option<V>, CallError> {
        self.handle.value(Operation::Change(put(&of, &value)?))
    }

    /// Inserts a value if the key has none, and returns the value that the key has then.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn get_or_insert(&self, of: K, value: V) -> Result<V, CallError> {
        match self.handle.compare_exchange(place(&of)?, None, Some(&value))? {
            Err(Some(found)) => Ok(found),
            _ => Ok(value),
        }
    }

    /// Inserts several values, in one message and all at once.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert). If one entry cannot be encoded, none is inserted.
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), CallError> {
        let entries = entries.into_iter().map(|(of, value)| put(&of, &value));
        self.handle.call(Operation::Changes(entries.collect::<Result<_, _>>()?))
    }

    /// Removes a key and returns the value that it had.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn remove<Q: Serialize + ?Sized>(&self, of: &Q) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
    {
        self.handle.value(Operation::Change(wire::Change::Remove(place(of)?)))
    }

    /// Tells whether the map has the key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn contains_key<Q: Serialize + ?Sized>(&self, of: &Q) -> Result<bool, CallError>
    where
        K: Borrow<Q>,
    {
        self.handle.call(Operation::Contains(Key::encode(of)?))
    }

    /// Changes the value of a key by a function that runs in the server, and returns the function's
    /// result.
    ///
    /// The function is `fn(old: Option<V>, argument: A) -> (Option<V>, R)` with the attribute
    /// `#[process_fn]`. The map gets the value that it returns; `None` removes the key. Other calls
    /// of this map wait until the function has returned, and other objects are served meanwhile. So
    /// the function must not wait for a call of the same map.
    ///
    /// # Errors
    ///
    /// [`CallError::Panicked`] if the function panics; the map is unchanged then. As
    /// [`get`](Self::get) otherwise.
    ///
    /// # Process death
    ///
    /// If the caller dies, the function runs to its end, and the change holds.
    pub fn modify<F: Change<V>>(
        &self,
        of: &(impl KeyOf<K> + ?Sized),
        argument: F::Argument,
    ) -> Result<F::Result, CallError> {
        self.handle.modify::<V, F>(place(of)?, &argument)
    }

    /// Gives a key the value `new` if its value is `old`; `None` is no value. Otherwise the inner
    /// error holds the value that the key has.
    ///
    /// Values are equal if their encoded bytes are. Proxies are equal if they stand for the same
    /// object. Other descriptors are never equal.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_manager::{Manager, Map};
    ///
    /// let manager = Manager::here()?;
    /// let owners = Map::<String, u32>::new(&manager)?;
    /// assert_eq!(owners.compare_exchange("job", None, Some(1))?, Ok(()));
    /// assert_eq!(owners.compare_exchange("job", None, Some(2))?, Err(Some(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_exchange<Q: Serialize + ?Sized>(
        &self,
        of: &Q,
        old: Option<V>,
        new: Option<V>,
    ) -> Result<Result<(), Option<V>>, CallError>
    where
        K: Borrow<Q>,
    {
        self.handle.compare_exchange(place(of)?, old.as_ref(), new.as_ref())
    }

    /// Returns how many entries the map has.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn len(&self) -> Result<usize, CallError> {
        self.handle.call(Operation::Len)
    }

    /// Tells whether the map has no entries.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|length| length == 0)
    }

    /// Returns all keys of one instant, in the order in which they were inserted.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn keys(&self) -> Result<Vec<K>, CallError> {
        Iter::new(&self.handle, Operation::Keys, |(key, _)| key.decode())?.collect()
    }

    /// Returns all entries of one instant, in the order in which their keys were inserted.
    ///
    /// This process needs memory for all of them; [`iter`](Self::iter) does without.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn snapshot(&self) -> Result<Vec<(K, V)>, CallError> {
        self.iter()?.collect()
    }

    /// Returns an iterator over all entries of one instant, which come in pieces of bounded length.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn iter(&self) -> Result<Iter<(K, V)>, CallError> {
        Iter::new(&self.handle, Operation::Entries, watch::entry)
    }

    /// Follows the map: a snapshot, and then every change. See [`Watch`].
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`CallError::Busy`] if the map has 4,096 watches.
    pub fn watch(&self) -> Result<Watch<MapChange<K, V>>, CallError> {
        Watch::new(&self.handle, watch::map_change)
    }

    /// Removes all entries.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.change(wire::Change::Clear)
    }
}
