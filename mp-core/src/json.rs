//! Values that the codec cannot encode, as JSON.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

/// Sends a value as JSON, in an argument, a result or a message.
///
/// The codec of this library writes neither names nor types. So it refuses values that need them:
/// `serde_json::Value`, and types with `#[serde(flatten)]`, `#[serde(untagged)]`, `#[serde(tag =
/// "..")]` or `skip_serializing_if`. Inside a `Json` they can be sent. JSON is slower and longer,
/// and bytes become lists of numbers. The keys of maps have to be strings, numbers that are not
/// finite become `null`, and the nesting is limited to 128 levels. The value can contain
/// descriptors.
///
/// # Examples
///
/// ```
/// use mp_core::{Json, process_fn};
/// use serde_json::{Value, json};
///
/// #[process_fn]
/// fn name(request: Json<Value>) -> Option<String> {
///     Some(request["name"].as_str()?.to_owned())
/// }
///
/// let request = json!({ "name": "Ada", "others": [1, 2.5, null] });
/// assert_eq!(name::spawn(Json(request))?.join()?, Some("Ada".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData)).map(Self)
    }
}

/// Parses the string without copying it first.
struct Text<T>(PhantomData<fn() -> T>);

impl<T: DeserializeOwned> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of JSON")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        serde_json::from_str(text).map_err(de::Error::custom)
    }
}
