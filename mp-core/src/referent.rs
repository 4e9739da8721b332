//! What a parameter can be a reference to, and how it travels: the borrowed value is encoded as it stands, and becomes an owned
//! one in the other process, which lends it to the function.
//!
//! Both forms are encoded alike, so either side may have either. That holds by serde's own rules for everything but bytes, which
//! are written and read at once instead of one by one; the codec writes both in the same way (see `codec`).

use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::sys::bytes;

/// A type of which there is an owned form.
#[diagnostic::on_unimplemented(
    message = "a process function cannot take a reference to `{Self}`",
    label = "nothing is known to own it in the other process",
    note = "of the types without a size there are `str`, `[T]`, `Path`, `OsStr` and `CStr`"
)]
// Apart from `Travel`, so that a type that serde cannot encode is found fault with once and not wherever its owned form is named.
pub trait Referent {
    /// What owns the value in the other process.
    type Owned: Borrow<Self>;
}

/// A type that a parameter can be a reference to.
#[diagnostic::on_unimplemented(
    message = "a process function cannot take a reference to `{Self}`",
    label = "cannot be sent to another process",
    note = "what is borrowed travels to the other process by serde: add `#[derive(serde::Serialize, serde::Deserialize)]` to the type and the types inside it"
)]
pub trait Travel: Referent {
    /// Serialises the value.
    fn lend<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Deserialises the value.
    fn receive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Owned, D::Error>;
}

impl<T> Referent for T {
    type Owned = T;
}

impl<T> Referent for [T] {
    type Owned = Vec<T>;
}

macro_rules! without_size {
    ($($borrowed:ty => $owned:ty),+ $(,)?) => {$(
        impl Referent for $borrowed {
            type Owned = $owned;
        }

        impl Travel for $borrowed {
            fn lend<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }

            fn receive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$owned, D::Error> {
                Deserialize::deserialize(deserializer)
            }
        }
    )+};
}

without_size! { str => String, Path => PathBuf, OsStr => OsString, CStr => CString }

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Travel for T {
    fn lend<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn receive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Travel for [T] {
    fn lend<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes::of(self) {
            Some(bytes) => serializer.serialize_bytes(bytes),
            None => self.serialize(serializer),
        }
    }

    fn receive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        if TypeId::of::<T>() != TypeId::of::<u8>() {
            return Deserialize::deserialize(deserializer);
        }
        let bytes: Box<dyn Any> = Box::new(ByteBuf::deserialize(deserializer)?.into_vec());
        bytes.downcast().map(|bytes| *bytes).map_err(|_| D::Error::custom("bytes are no bytes"))
    }
}

/// A borrowed argument, to be encoded.
pub struct Lent<'a, T: ?Sized>(pub &'a T);

impl<T: Travel + ?Sized> Serialize for Lent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lend(serializer)
    }
}

/// What a borrowed argument has become in the other process.
pub struct Received<T: Referent + ?Sized>(pub T::Owned);

impl<'de, T: Travel + ?Sized> Deserialize<'de> for Received<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::receive(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests;
