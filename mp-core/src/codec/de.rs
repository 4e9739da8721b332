//! Bytes to values.

use std::any::TypeId;

use bincode::de::{Decode, Decoder, DecoderImpl};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::error::refused;
use super::input::TakenBytes;
use super::{DecodeError, FORMAT, Format, Input, MAX_DEPTH};
use crate::sys::bytes::{self, Number, Take};

pub(super) struct Deserializer<'i> {
    decoder: DecoderImpl<Input<'i>, Format, ()>,
    /// How many more elements are allowed (promise 2 of the module).
    elements: u64,
    /// How many bytes were left when the last sequence began.
    bytes: u64,
    depth: u32,
    /// How many sequences and maps, one inside the other, are being decoded.
    sequences: u64,
}

impl<'i> Deserializer<'i> {
    #[inline(always)]
    pub(super) fn new(input: Input<'i>) -> Self {
        let bytes = input.left();
        let elements = bytes.saturating_mul(ELEMENTS_PER_BYTE).saturating_add(ELEMENTS_AT_LEAST);
        Self { decoder: DecoderImpl::new(input, FORMAT, ()), elements, bytes, depth: 0, sequences: 0 }
    }

    #[inline(always)]
    pub(super) fn finish(mut self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => {
                Err(DecodeError::new(format!("the message is {left} bytes too long; do both ends use the same type?")))
            }
        }
    }

    /// How many bytes are left.
    #[inline]
    fn left(&mut self) -> u64 {
        self.decoder.reader().left()
    }

    #[inline]
    fn take<T: Decode<()>>(&mut self) -> Result<T, DecodeError> {
        T::decode(&mut self.decoder).map_err(refused)
    }

    /// Reads a length and that many bytes.
    #[inline]
    fn take_sized(&mut self) -> Result<TakenBytes<'_>, DecodeError> {
        let length = self.take()?;
        self.decoder.reader().take(length)
    }

    /// Decodes a value that contains other values.
    #[inline]
    fn nested<T>(&mut self, decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        let result = decode(self);
        self.depth -= 1;
        result
    }

    /// Decodes a sequence or a map whose length is in the input.
    #[inline]
    fn sequence<T>(
        &mut self,
        decode: impl FnOnce(Elements<'_, 'i>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let length = self.take()?;
        self.bytes = self.left();
        self.sequences += 1;
        let result = self.elements(length, decode);
        self.sequences -= 1;
        result
    }

    /// Decodes the given number of elements.
    #[inline]
    fn elements<T>(
        &mut self,
        length: u64,
        decode: impl FnOnce(Elements<'_, 'i>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.elements = self.elements.checked_sub(length).ok_or_else(too_many)?;
        self.nested(|deserializer| decode(Elements { deserializer, left: length }))
    }
}

impl Take for &mut Deserializer<'_> {
    type Error = DecodeError;

    #[inline]
    fn request<V: DeserializeOwned>() -> Option<TypeId> {
        V::deserialize(Probe).err().and_then(|Probed(visitor)| visitor)
    }

    fn take<N: Number>(self) -> Result<Vec<N>, DecodeError> {
        let count = Deserializer::take(self)?;
        self.decoder.reader().take_numbers(count)
    }

    #[inline(always)]
    fn show(&mut self, length: usize) -> Option<&[u8]> {
        self.decoder.reader().show(length)
    }

    #[inline(always)]
    fn fill(self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        self.decoder.reader().read_in_pieces(bytes).map_err(refused)
    }
}

/// Finds the type of the visitor by which serde decodes a `Vec<N>` or an array, which has no public
/// name. That visitor takes the elements as they are. Another visitor with the same value, from
/// `deserialize_with`, may change them.
struct Probe;

#[derive(Debug, thiserror::Error)]
#[error("only the type of the visitor was wanted")]
struct Probed(Option<TypeId>);

impl de::Error for Probed {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

impl<'de> de::Deserializer<'de> for Probe {
    type Error = Probed;

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(bytes::id::<V>())))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(bytes::id::<V>())))
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(bytes::id::<V>())))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Probed> {
        Err(Probed(None))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct
        newtype_struct tuple_struct map struct enum identifier ignored_any
    }
}

#[cold]
fn too_deep() -> DecodeError {
    DecodeError::new(format!("the value is nested more than {MAX_DEPTH} levels deep"))
}

#[cold]
fn too_many() -> DecodeError {
    DecodeError::new("the value announces more elements than the message has bytes for")
}

/// The greatest number of elements for each byte of the message, and for the whole message at
/// least. It bounds sequences of `()`, which take time but no input. A byte is part of at most
/// [`MAX_DEPTH`] elements, one inside the other, so no message with bytes in all elements exceeds
/// this.
const ELEMENTS_PER_BYTE: u64 = 1 << 11;
const ELEMENTS_AT_LEAST: u64 = 1 << 20;
const _: () = assert!(ELEMENTS_PER_BYTE > MAX_DEPTH as u64);

/// Types that are primitives of bincode.
macro_rules! primitives {
    ($($method:ident => $visit:ident),+ $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.take()?)
        }
    )+};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'_> {
    type Error = DecodeError;

    primitives! {
        deserialize_i8 => visit_i8, deserialize_i16 => visit_i16, deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64, deserialize_i128 => visit_i128,
        deserialize_u8 => visit_u8, deserialize_u16 => visit_u16, deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64, deserialize_u128 => visit_u128,
        deserialize_f32 => visit_f32, deserialize_f64 => visit_f64,
        deserialize_bool => visit_bool, deserialize_char => visit_char,
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::new(
            "the format does not describe itself, which this type needs (as `#[serde(untagged)]`, \
             `#[serde(tag)]`, `#[serde(flatten)]` and `serde_json::Value` do): \
             send the value as a `Json` (feature `json`)",
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_sized()? {
            TakenBytes::Shown(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_str(text),
                Err(error) => path_or::<V>(bytes.to_vec(), error),
            },
            TakenBytes::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => visitor.visit_string(text),
                Err(error) => {
                    let why = error.utf8_error();
                    path_or::<V>(error.into_bytes(), why)
                }
            },
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_sized()? {
            TakenBytes::Shown(bytes) => visitor.visit_bytes(bytes),
            TakenBytes::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take::<u8>()? {
            0 => visitor.visit_none(),
            1 => self.nested(|this| visitor.visit_some(this)),
            other => Err(no_option(other)),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(|this| visitor.visit_newtype_struct(this))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match bytes::take::<V, V::Value, _>(self) {
            Ok(numbers) => numbers,
            Err(this) => this.sequence(|elements| visitor.visit_seq(elements)),
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        match bytes::fill::<V, V::Value, _>(self) {
            Ok(numbers) => numbers,
            Err(this) => this.elements(length as u64, |elements| visitor.visit_seq(elements)),
        }
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.sequence(|elements| visitor.visit_map(elements))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

#[cold]
fn no_option(other: u8) -> DecodeError {
    DecodeError::new(format!("{other} is not an Option"))
}

/// Makes a path of bytes that are no text, or says what they are not.
#[cold]
fn path_or<'de, V: Visitor<'de>>(bytes: Vec<u8>, error: std::str::Utf8Error) -> Result<V::Value, DecodeError> {
    bytes::path_from::<V, V::Value, &mut Deserializer<'_>>(bytes).ok_or_else(|| no_text(error))
}

#[cold]
fn no_text(error: std::str::Utf8Error) -> DecodeError {
    DecodeError::new(error.to_string())
}

/// The elements of a sequence, a tuple or a map that are not decoded yet.
struct Elements<'a, 'i> {
    deserializer: &'a mut Deserializer<'i>,
    left: u64,
}

impl Elements<'_, '_> {
    /// A hint is never more than the number of bytes left (promise 1 of the module). Each sequence
    /// around this one may have reserved room because of the same bytes, so the hint is smaller the
    /// deeper the sequence is. All hints together are less than seven times the number of bytes.
    fn hint(&self) -> Option<usize> {
        let most = self.deserializer.bytes / self.deserializer.sequences.max(1);
        usize::try_from(self.left.min(most)).ok()
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, '_> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        seed.deserialize(&mut *self.deserializer)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::EnumAccess<'de> for &mut Deserializer<'_> {
    type Error = DecodeError;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), DecodeError> {
        let index: u32 = self.take()?;
        Ok((seed.deserialize(index.into_deserializer())?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Deserializer<'_> {
    type Error = DecodeError;

    #[inline]
    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        self.nested(|this| seed.deserialize(this))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
