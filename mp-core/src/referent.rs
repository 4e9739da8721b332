//! The types to which a parameter can be a reference.
//!
//! The parent encodes the borrowed value. The child decodes the owned type and lends it to the
//! function. Both types have the same encoded form: serde guarantees that, and the codec does for
//! slices of numbers.

use std::borrow::Borrow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that has an owned form.
#[diagnostic::on_unimplemented(
    message = "a process function cannot take a reference to `{Self}`",
    label = "has no owned form for the other process",
    note = "the unsized types that can be sent are `str`, `[T]`, `Path`, `OsStr` and `CStr`"
)]
// Separate from `EncodableReferent`, so that the compiler reports a type that serde cannot encode
// only once, and not at every use of its owned form.
pub trait Referent {
    /// The type that owns the value in the other process.
    type Owned: Borrow<Self>;
}

/// A type that a parameter can be a reference to.
#[diagnostic::on_unimplemented(
    message = "a process function cannot take a reference to `{Self}`",
    label = "cannot be sent to another process",
    note = "the borrowed value is sent to the other process by serde: add `#[derive(serde::Serialize, serde::Deserialize)]` to the type and the types inside it"
)]
pub trait EncodableReferent: Referent {}

#[diagnostic::do_not_recommend]
impl<T: Referent<Owned: DeserializeOwned> + Serialize + ?Sized> EncodableReferent for T {}

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
