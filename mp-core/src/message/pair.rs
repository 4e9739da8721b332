//! A pair whose parts are messages of their own.
//!
//! A function `fn(Option<V>, A) -> (Option<V>, R)` takes and returns two values in one message. A
//! process that keeps values without knowing their types can neither put two encoded values
//! together, because each counts its descriptors from 0, nor cut them apart. So these adapters
//! stand in for the tuple and the `Option`, and give each value a message of its own.

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, Impossible, SerializeTuple, Serializer};
use serde::{Serialize, forward_to_deserialize_any};

use super::Message;
use crate::codec::{DecodeError, EncodeError};

/// Decodes a pair of an `Option` and another value.
pub(crate) fn decode<T: DeserializeOwned>(first: Option<Message>, second: Message) -> Result<T, DecodeError> {
    T::deserialize(Parts { first: Some(first), second: Some(second) })
}

/// Encodes a pair of an `Option` and another value.
pub(crate) fn encode<T: Serialize>(pair: &T) -> Result<(Option<Message>, Message), EncodeError> {
    pair.serialize(Encoder)
}

const WANTED: &str = "the function must take `(Option<V>, A)` and return `(Option<V>, R)`";

struct Parts {
    first: Option<Option<Message>>,
    second: Option<Message>,
}

impl<'de> Deserializer<'de> for Parts {
    type Error = DecodeError;

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        if length == 2 { visitor.visit_seq(self) } else { Err(DecodeError::custom(WANTED)) }
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom(WANTED))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Parts {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if let Some(first) = self.first.take() {
            return seed.deserialize(Optional(first)).map(Some);
        }
        self.second.take().map(|second| second.decode_by(seed)).transpose()
    }
}

struct Optional(Option<Message>);

impl<'de> Deserializer<'de> for Optional {
    type Error = DecodeError;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Some(message) => message.decode_by(Inside(visitor)),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom(WANTED))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Decodes what is in an `Option`.
struct Inside<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Inside<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(deserializer)
    }
}

/// Encodes a pair.
struct Encoder;

/// Encodes the `Option` in a pair.
struct OptionEncoder;

#[derive(Default)]
struct Encoded {
    first: Option<Option<Message>>,
    second: Option<Message>,
}

impl SerializeTuple for Encoded {
    type Ok = (Option<Message>, Message);
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        match self.first {
            None => self.first = Some(value.serialize(OptionEncoder)?),
            Some(_) => self.second = Some(Message::encode(value)?),
        }
        Ok(())
    }

    fn end(self) -> Result<Self::Ok, EncodeError> {
        self.first.zip(self.second).ok_or_else(|| EncodeError::custom(WANTED))
    }
}

/// The methods of a serializer that refuse what is no pair or no `Option`.
macro_rules! refuse {
    ($($method:ident($($type:ty),*))*) => {
        $(fn $method(self, $(_: $type),*) -> Result<Self::Ok, EncodeError> {
            Err(EncodeError::custom(WANTED))
        })*
    };
    (compound $($method:ident($($type:ty),*) -> $compound:ident;)*) => {
        type Error = EncodeError;
        $(type $compound = Impossible<Self::Ok, EncodeError>;
        fn $method(self, $(_: $type),*) -> Result<Self::$compound, EncodeError> {
            Err(EncodeError::custom(WANTED))
        })*
        refuse! {
            serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
            serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
            serialize_u128(u128) serialize_f32(f32) serialize_f64(f64) serialize_char(char) serialize_str(&str)
            serialize_bytes(&[u8]) serialize_unit() serialize_unit_struct(&'static str)
            serialize_unit_variant(&'static str, u32, &'static str)
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<Self::Ok, EncodeError> {
            Err(EncodeError::custom(WANTED))
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, EncodeError> {
            Err(EncodeError::custom(WANTED))
        }
    };
}

impl Serializer for Encoder {
    type Ok = (Option<Message>, Message);
    type SerializeTuple = Encoded;

    fn serialize_tuple(self, length: usize) -> Result<Encoded, EncodeError> {
        if length == 2 { Ok(Encoded::default()) } else { Err(EncodeError::custom(WANTED)) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, EncodeError> {
        Err(EncodeError::custom(WANTED))
    }

    refuse! {
        compound
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
    refuse! { serialize_none() }
}

impl Serializer for OptionEncoder {
    type Ok = Option<Message>;

    fn serialize_none(self) -> Result<Self::Ok, EncodeError> {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, EncodeError> {
        Message::encode(value).map(Some)
    }

    refuse! {
        compound
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fd;
    use std::fs::File;

    fn null() -> Fd<File> {
        Fd(File::open("/dev/null").unwrap())
    }

    #[test]
    fn the_parts_of_a_pair_are_messages_of_their_own() {
        let (first, second) = encode(&(Some("one".to_owned()), 2_u64)).unwrap();
        assert_eq!(second.decode::<u64>().unwrap(), 2);
        let pair: (Option<String>, bool) = decode(first, Message::encode(&true).unwrap()).unwrap();
        assert_eq!(pair, (Some("one".to_owned()), true));
        assert!(encode(&(None::<u8>, ())).unwrap().0.is_none());
        assert_eq!(decode::<(Option<u8>, u8)>(None, Message::encode(&1_u8).unwrap()).unwrap(), (None, 1));
    }

    #[test]
    fn both_parts_can_hold_descriptors() {
        let (first, second) = encode(&(Some(null()), vec![null(), null()])).unwrap();
        assert_eq!(second.decode::<Vec<Fd<File>>>().unwrap().len(), 2);
        let second = Message::encode(&null()).unwrap();
        assert!(decode::<(Option<Fd<File>>, Fd<File>)>(first, second).unwrap().0.is_some());
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(encode(&7_u8).is_err());
        assert!(encode(&(1_u8, 2_u8)).is_err());
        assert!(encode(&(Some(1_u8), 2_u8, 3_u8)).is_err());
        assert!(decode::<u8>(None, Message::encode(&1_u8).unwrap()).is_err());
        assert!(decode::<(u8, u8)>(None, Message::encode(&1_u8).unwrap()).is_err());
    }
}
