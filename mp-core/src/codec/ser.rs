//! Values to bytes.

use serde::ser::{self, Serialize};

use super::{EncodeError, LONG, MAX_DEPTH};

/// Where encoded bytes go.
pub(crate) trait Output {
    /// Appends `bytes`, or says why the message cannot grow that far.
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
}

pub(super) struct Serializer<'o, O> {
    output: &'o mut O,
    depth: u32,
}

impl<'o, O: Output> Serializer<'o, O> {
    pub(super) fn new(output: &'o mut O) -> Self {
        Self { output, depth: 0 }
    }

    fn write_length(&mut self, length: u64) -> Result<(), EncodeError> {
        match u8::try_from(length) {
            Ok(short) if short != LONG => self.output.write(&[short]),
            _ => {
                let mut bytes = [LONG; 9];
                bytes[1..].copy_from_slice(&length.to_le_bytes());
                self.output.write(&bytes)
            }
        }
    }

    #[inline]
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if self.depth == MAX_DEPTH {
            return Err(EncodeError::new(format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let result = value.serialize(&mut *self);
        self.depth -= 1;
        result
    }
}

macro_rules! fixed_width {
    ($($method:ident: $type:ty),+ $(,)?) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.output.write(&value.to_le_bytes())
        }
    )+};
}

impl<O: Output> ser::Serializer for &mut Serializer<'_, O> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed_width! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.serialize_u8(u8::from(value))
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_u32(u32::from(value))
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.write_length(value.len() as u64)?;
        self.output.write(value)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.serialize_u8(1)?;
        self.nested(value)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.write_length(u64::from(index))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.nested(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.write_length(u64::from(index))?;
        self.nested(value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, EncodeError> {
        let length = length.ok_or_else(|| EncodeError::new("a sequence must know its length before it is encoded"))?;
        self.write_length(length as u64)?;
        Ok(self)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.write_length(u64::from(index))?;
        Ok(self)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, EncodeError> {
        let length = length.ok_or_else(|| {
            EncodeError::new("a map must know its length before it is encoded (`#[serde(flatten)]` does not)")
        })?;
        self.write_length(length as u64)?;
        Ok(self)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.write_length(u64::from(index))?;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The seven compound traits differ in the names of their methods only.
macro_rules! compound {
    ($($trait:ident { $($method:ident $(($key:ty))?),+ $(; $skip:ident)? })+) => {$(
        impl<O: Output> ser::$trait for &mut Serializer<'_, O> {
            type Ok = ();
            type Error = EncodeError;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, $(_key: $key,)? value: &T) -> Result<(), EncodeError> {
                    self.nested(value)
                }
            )+

            $(
                // Without this the fields after it would be decoded in its place.
                fn $skip(&mut self, key: &'static str) -> Result<(), EncodeError> {
                    Err(EncodeError::new(format!(
                        "the field `{key}` cannot be left out (`#[serde(skip_serializing_if)]`): the format has no names of fields"
                    )))
                }
            )?

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
