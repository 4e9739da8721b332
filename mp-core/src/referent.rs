//! What a parameter can be a reference to.
//!
//! The borrowed value is encoded as it stands, and decoded as an owned one in the other process,
//! which lends it to the function. Both forms are encoded alike: that holds by serde's rules, and
//! of slices of numbers by those of the codec.

use std::borrow::Borrow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type of which there is an owned form.
#[diagnostic::on_unimplemented(
    message = "a process function cannot take a reference to `{Self}`",
    label = "nothing is known to own it in the other process",
    note = "of the types without a size there are `str`, `[T]`, `Path`, `OsStr` and `CStr`"
)]
// Apart from `Travel`, so that a type that serde cannot encode is found fault with once and not
// wherever its owned form is named.
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
pub trait Travel: Referent {}

#[diagnostic::do_not_recommend]
impl<T: Referent<Owned: DeserializeOwned> + Serialize + ?Sized> Travel for T {}

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
    )+};
}

without_size! { str => String, Path => PathBuf, OsStr => OsString, CStr => CString }

#[cfg(test)]
mod tests;
