//! Bytes to values.

use serde::de::{self, DeserializeSeed, Visitor};

use super::source::{SHORT, Source, Stream, too_short};
use super::{DecodeError, LONG, MAX_DEPTH};

pub(super) struct Deserializer<'de, 's> {
    /// The bytes of a message that is at hand as a whole.
    rest: &'de [u8],
    /// How many there were.
    length: usize,
    /// Those of one that is not; `rest` is empty then.
    stream: Option<Stream<'s>>,
    /// How many elements without bytes of their own were made (promise 2 of the module).
    empty_elements: u64,
    depth: u32,
    /// How many sequences and maps are being decoded, each inside the one before.
    sequences: usize,
}

impl<'de, 's> Deserializer<'de, 's> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, length: bytes.len(), stream: None, empty_elements: 0, depth: 0, sequences: 0 }
    }

    /// Decodes what comes out of `source`.
    pub(super) fn streaming(source: &'s mut dyn Source) -> Self {
        Self { rest: &[], length: 0, stream: Some(Stream::new(source)), empty_elements: 0, depth: 0, sequences: 0 }
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        let left = match self.stream {
            Some(stream) => stream.finish()?,
            None => self.rest.len(),
        };
        match left {
            0 => Ok(()),
            left => Err(DecodeError::new(format!("{left} bytes are left over after the value"))),
        }
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        if let Some((head, tail)) = self.rest.split_first_chunk::<N>() {
            self.rest = tail;
            return Ok(*head);
        }
        match &mut self.stream {
            Some(stream) => stream.take_array(),
            None => Err(too_short(N, self.rest.len())),
        }
    }

    fn take_length(&mut self) -> Result<u64, DecodeError> {
        match self.take_array::<1>()? {
            [LONG] => Ok(u64::from_le_bytes(self.take_array()?)),
            [short] => Ok(u64::from(short)),
        }
    }

    /// Takes a length and as many bytes.
    #[inline]
    fn take_sized(&mut self) -> Result<Taken<'de, '_>, DecodeError> {
        let length = self.take_length()?;
        let length = usize::try_from(length).map_err(|_| too_short(usize::MAX, self.rest.len()))?;
        if let Some(stream) = &mut self.stream {
            // Twice, because a borrow that may be returned lasts to the end.
            if length <= SHORT {
                return stream.take_short(length).map(Taken::Shown);
            }
            return stream.take_long(length).map(Taken::Owned);
        }
        let (head, tail) = self.rest.split_at_checked(length).ok_or_else(|| too_short(length, self.rest.len()))?;
        self.rest = tail;
        Ok(Taken::Borrowed(head))
    }

    /// Grows with every byte that is taken.
    #[inline]
    fn position(&self) -> u64 {
        match &self.stream {
            Some(stream) => stream.position(),
            None => (self.length - self.rest.len()) as u64,
        }
    }

    #[cold]
    fn count_empty_element(&mut self) -> Result<(), DecodeError> {
        self.empty_elements += 1;
        let bytes = if self.stream.is_some() { self.position() } else { self.length as u64 };
        if self.empty_elements > bytes.saturating_mul(EMPTY_PER_BYTE).saturating_add(EMPTY_AT_LEAST) {
            return Err(DecodeError::new("too many elements that take no bytes"));
        }
        Ok(())
    }

    #[inline]
    fn nested<T>(&mut self, decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(DecodeError::new(format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let result = decode(self);
        self.depth -= 1;
        result
    }

    /// Decodes a sequence or a map of a length that stands in the input.
    #[inline]
    fn sequence<T>(
        &mut self,
        decode: impl FnOnce(Elements<'_, 'de, 's>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let left = self.take_length()?;
        self.sequences += 1;
        let result = decode(Elements { deserializer: self, left });
        self.sequences -= 1;
        result
    }
}

/// A sequence of `()` costs its receiver time but no input, so its length has to be bounded by something:
/// this many elements for each byte of the message, and this many at least.
const EMPTY_PER_BYTE: u64 = 1 << 10;
const EMPTY_AT_LEAST: u64 = 1 << 20;

/// Bytes of a string or a byte buffer.
enum Taken<'de, 's> {
    Borrowed(&'de [u8]),
    Shown(&'s [u8]),
    Owned(Vec<u8>),
}

macro_rules! fixed_width {
    ($($method:ident => $visit:ident: $type:ty),+ $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(<$type>::from_le_bytes(self.take_array()?))
        }
    )+};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de, '_> {
    type Error = DecodeError;

    fixed_width! {
        deserialize_i8 => visit_i8: i8, deserialize_i16 => visit_i16: i16, deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64, deserialize_i128 => visit_i128: i128,
        deserialize_u8 => visit_u8: u8, deserialize_u16 => visit_u16: u16, deserialize_u32 => visit_u32: u32,
        deserialize_u64 => visit_u64: u64, deserialize_u128 => visit_u128: u128,
        deserialize_f32 => visit_f32: f32, deserialize_f64 => visit_f64: f64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::new(
            "the format does not describe itself, which this type needs (`#[serde(untagged)]`, `#[serde(tag)]`, `#[serde(flatten)]` and \
             `serde_json::Value` do): send it as a string of JSON",
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_array()? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            [other] => Err(DecodeError::new(format!("{other} is no bool"))),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let scalar = u32::from_le_bytes(self.take_array()?);
        let character = char::from_u32(scalar).ok_or_else(|| DecodeError::new(format!("{scalar:#x} is no char")))?;
        visitor.visit_char(character)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_sized()? {
            Taken::Borrowed(bytes) => visitor.visit_borrowed_str(text(bytes)?),
            Taken::Shown(bytes) => visitor.visit_str(text(bytes)?),
            Taken::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => visitor.visit_string(text),
                Err(error) => Err(no_text(error.utf8_error())),
            },
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_sized()? {
            Taken::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
            Taken::Shown(bytes) => visitor.visit_bytes(bytes),
            Taken::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.take_array()? {
            [0] => visitor.visit_none(),
            [1] => self.nested(|this| visitor.visit_some(this)),
            [other] => Err(DecodeError::new(format!("{other} is no Option"))),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(|this| visitor.visit_newtype_struct(this))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.sequence(|elements| visitor.visit_seq(elements))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Elements { deserializer: self, left: length as u64 })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.sequence(|elements| visitor.visit_map(elements))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let index = self.take_length()?;
        visitor.visit_u64(index)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(no_text)
}

#[cold]
fn no_text(error: std::str::Utf8Error) -> DecodeError {
    DecodeError::new(error.to_string())
}

/// The elements of a sequence, a tuple or a map that are still to come.
struct Elements<'a, 'de, 's> {
    deserializer: &'a mut Deserializer<'de, 's>,
    left: u64,
}

impl<'de> Elements<'_, 'de, '_> {
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let before = self.deserializer.position();
        let value = self.deserializer.nested(|deserializer| seed.deserialize(deserializer))?;
        if self.deserializer.position() == before {
            self.deserializer.count_empty_element()?;
        }
        Ok(value)
    }

    /// A hint never promises more elements than there are bytes (promise 1 of the module), or than a streamed message is
    /// trusted with. Every sequence around this one may have reserved room for elements by the same bytes, so the deeper it is, the less
    /// it is promised: all together, not seven times what there is.
    fn hint(&self) -> Option<usize> {
        let bytes = if self.deserializer.stream.is_some() { SHORT } else { self.deserializer.rest.len() };
        let most = bytes / self.deserializer.sequences.max(1);
        Some(usize::try_from(self.left).unwrap_or(usize::MAX).min(most))
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de, '_> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.next(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.next(seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::EnumAccess<'de> for &mut Deserializer<'de, '_> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), DecodeError> {
        let variant = seed.deserialize(&mut *self)?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Deserializer<'de, '_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        self.nested(|this| seed.deserialize(this))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
