//! The values in a list.

use serde::{Deserialize, Serialize};

/// A value in a [`ShareableList`](crate::ShareableList), of one of the types that Python allows.
///
/// Two items are equal if they are of the same kind and have the same value. In Python, `1`, `1.0`
/// and `True` are equal too.
///
/// # Examples
///
/// ```
/// use mp_shm::Item;
///
/// assert_eq!(Item::from("text"), Item::Str("text".to_owned()));
/// assert_eq!(Item::from(Some(7)), Item::Int(7));
/// assert_eq!(Item::from(None::<i64>), Item::None);
/// assert_ne!(Item::from(1), Item::from(1.0));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// Python's `None`.
    None,
    /// A `bool`.
    Bool(bool),
    /// An `int`. In Python too, one that does not fit in 64 bits is an error.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(String),
    /// A `bytes`.
    Bytes(Vec<u8>),
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Item {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from! {
    bool => Bool,
    i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => Int, u16 => Int, u32 => Int,
    f32 => Float, f64 => Float,
    String => Str, &str => Str,
    Vec<u8> => Bytes, &[u8] => Bytes,
}

impl<const N: usize> From<&[u8; N]> for Item {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<()> for Item {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl<T: Into<Self>> From<Option<T>> for Item {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
