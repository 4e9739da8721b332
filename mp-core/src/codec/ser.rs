//! Values to bytes.

use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder, EncoderImpl};
use bincode::error::EncodeError as Failure;
use serde::ser::{self, Serialize};

use super::{EncodeError, FORMAT, Format, MAX_DEPTH};
use crate::sys::bytes::{self, Numbers};

/// Where encoded bytes go.
pub(crate) trait Output {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
}

#[cfg(any(test, fuzzing))]
impl Output for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl<O: Output> Output for &mut O {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        (**self).write(bytes)
    }
}

/// The writer to which bincode writes its primitives. It owns the output, so that the compiler
/// knows that writing to memory changes nothing in it, and keeps its fields in registers.
struct Sink<O> {
    output: O,
    /// The error of the output. bincode's own error type cannot hold it.
    refusal: Option<EncodeError>,
}

impl<O: Output> Writer for Sink<O> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.output.write(bytes).map_err(|refusal| {
            self.refusal = Some(refusal);
            Failure::UnexpectedEnd
        })
    }
}

/// Encodes `value` into `output`, and gives that back.
#[inline(always)]
pub(super) fn encode<T: Serialize + ?Sized, O: Output>(value: &T, output: O) -> (O, Result<(), EncodeError>) {
    let mut encoder = EncoderImpl::new(Sink { output, refusal: None }, FORMAT);
    let encoded = Serializer { encoder: &mut encoder, depth: 0 }.value(value);
    (encoder.into_writer().output, encoded)
}

/// Encodes one value, which may contain others.
pub(super) struct Serializer<'e, O: Output> {
    encoder: &'e mut EncoderImpl<Sink<O>, Format>,
    /// How many values contain this one.
    depth: u32,
}

impl<O: Output> Serializer<'_, O> {
    #[inline]
    fn put<T: Encode + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        match value.encode(self.encoder) {
            Ok(()) => Ok(()),
            Err(failure) => Err(why(self.encoder.writer(), &failure)),
        }
    }

    /// Enters a value that contains other values.
    #[inline]
    fn enter(self) -> Result<Self, EncodeError> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    #[inline]
    fn nested<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.enter()?.value(value)
    }

    /// Encodes a value: copies a vector, slice or array of numbers at once, and leaves everything
    /// else to serde.
    #[inline(always)]
    fn value<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), EncodeError> {
        match bytes::of(value) {
            Some(Numbers { count: Some(count), bytes }) => self.sized(count, bytes),
            Some(Numbers { count: None, bytes }) => self.plain(bytes),
            None => value.serialize(self),
        }
    }

    /// Writes the number of elements, and then their bytes.
    #[inline]
    fn sized(&mut self, count: usize, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put(&count)?;
        self.plain(bytes)
    }

    #[inline]
    fn plain(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let sink = self.encoder.writer();
        sink.write(bytes).map_err(|failure| why(sink, &failure))
    }
}

#[cold]
fn why<O>(sink: &mut Sink<O>, failure: &Failure) -> EncodeError {
    sink.refusal.take().unwrap_or_else(|| EncodeError::new(failure.to_string()))
}

#[cold]
fn too_deep() -> EncodeError {
    EncodeError::new(format!("the value is nested more than {MAX_DEPTH} levels deep"))
}

#[cold]
fn of_unknown_length(what: &str) -> EncodeError {
    EncodeError::new(format!(
        "{what} must know its length before it is encoded, and `#[serde(flatten)]` does not: \
         send the value as a `Json` (feature `json`)"
    ))
}

/// Types that are primitives of bincode.
macro_rules! primitives {
    ($($method:ident: $type:ty),+ $(,)?) => {$(
        #[inline]
        fn $method(mut self, value: $type) -> Result<(), EncodeError> {
            self.put(&value)
        }
    )+};
}

impl<O: Output> ser::Serializer for Serializer<'_, O> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    primitives! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64, serialize_bool: bool, serialize_char: char,
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), EncodeError> {
        self.sized(value.len(), value)
    }

    #[inline]
    fn serialize_none(mut self) -> Result<(), EncodeError> {
        self.put(&0_u8)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), EncodeError> {
        self.put(&1_u8)?;
        self.nested(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        mut self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.put(&index)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.nested(value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.put(&index)?;
        self.nested(value)
    }

    #[inline]
    fn serialize_seq(mut self, length: Option<usize>) -> Result<Self, EncodeError> {
        let length = length.ok_or_else(|| of_unknown_length("a sequence"))?;
        self.put(&length)?;
        self.enter()
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Self, EncodeError> {
        self.enter()
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, EncodeError> {
        self.enter()
    }

    #[inline]
    fn serialize_tuple_variant(
        mut self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.put(&index)?;
        self.enter()
    }

    #[inline]
    fn serialize_map(mut self, length: Option<usize>) -> Result<Self, EncodeError> {
        let length = length.ok_or_else(|| of_unknown_length("a map"))?;
        self.put(&length)?;
        self.enter()
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, EncodeError> {
        self.enter()
    }

    #[inline]
    fn serialize_struct_variant(
        mut self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.put(&index)?;
        self.enter()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The seven compound traits differ only in the names of their methods.
macro_rules! compound {
    ($($trait:ident { $($method:ident $(($key:ty))?),+ $(; $skip:ident)? })+) => {$(
        impl<O: Output> ser::$trait for Serializer<'_, O> {
            type Ok = ();
            type Error = EncodeError;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, $(_key: $key,)? value: &T) -> Result<(), EncodeError> {
                    Serializer { encoder: &mut *self.encoder, depth: self.depth }.value(value)
                }
            )+

            $(
                // Without this error, the decoder would take the next field for the skipped one.
                fn $skip(&mut self, key: &'static str) -> Result<(), EncodeError> {
                    Err(EncodeError::new(format!(
                        "the field `{key}` cannot be left out (`#[serde(skip_serializing_if)]`), because the format \
                         has no field names: send the value as a `Json` (feature `json`)"
                    )))
                }
            )?

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )+};
}

compound! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeMap { serialize_key, serialize_value }
    SerializeStruct { serialize_field(&'static str); skip_field }
    SerializeStructVariant { serialize_field(&'static str); skip_field }
}
