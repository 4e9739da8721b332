//! For random values, our bytes are bincode's, and each side decodes the other's.

use std::collections::BTreeMap;

use bincode::serde::{decode_from_slice, encode_to_vec};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{FORMAT, Input, decode, encode_to};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Box<Value>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u8, Unit, Box<Value>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    first: Option<Box<Value>>,
    empty: (),
    second: i32,
}

/// Every kind of value that serde has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Nothing,
    Bool(bool),
    Signed(i8, i16, i32, i64, i128, isize),
    Unsigned(u8, u16, u32, u64, u128, usize),
    // As bits, because not every float equals itself.
    Floats { narrow: u32, wide: u64 },
    Char(char),
    Text(String),
    Bytes(ByteBuf),
    Option(Option<Box<Value>>),
    Unit(Unit),
    Newtype(Newtype),
    TupleStruct(Tuple),
    Tuple((u16, Box<Value>)),
    Array([Box<Value>; 2]),
    Struct(Fields),
    Variant { list: Vec<Value>, result: Result<u8, String> },
    Sequence(Vec<Value>),
    Numbers(Vec<u64>),
    Map(BTreeMap<String, Value>),
    Keys(BTreeMap<(char, bool), Vec<()>>),
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nothing),
        Just(Value::Unit(Unit)),
        any::<bool>().prop_map(Value::Bool),
        any::<(i8, i16, i32, i64, i128, isize)>().prop_map(|(a, b, c, d, e, f)| Value::Signed(a, b, c, d, e, f)),
        any::<(u8, u16, u32, u64, u128, usize)>().prop_map(|(a, b, c, d, e, f)| Value::Unsigned(a, b, c, d, e, f)),
        any::<(u32, u64)>().prop_map(|(narrow, wide)| Value::Floats { narrow, wide }),
        any::<char>().prop_map(Value::Char),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<Vec<u64>>().prop_map(Value::Numbers),
        any::<BTreeMap<(char, bool), Vec<()>>>().prop_map(Value::Keys),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 64, 6, |inner| {
        let boxed = inner.clone().prop_map(Box::new).boxed();
        let list = prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            prop::option::of(boxed.clone()).prop_map(Value::Option),
            boxed.clone().prop_map(|value| Value::Newtype(Newtype(value))),
            (any::<u8>(), boxed.clone()).prop_map(|(byte, value)| Value::TupleStruct(Tuple(byte, Unit, value))),
            (any::<u16>(), boxed.clone()).prop_map(Value::Tuple),
            [boxed.clone(), boxed.clone()].prop_map(Value::Array),
            (prop::option::of(boxed), any::<i32>()).prop_map(|(first, second)| Value::Struct(Fields {
                first,
                empty: (),
                second
            })),
            (list.clone(), any::<Result<u8, String>>()).prop_map(|(list, result)| Value::Variant { list, result }),
            list.prop_map(Value::Sequence),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

#[track_caller]
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let mut ours = Vec::new();
    encode_to(value, &mut ours).unwrap();
    let theirs = encode_to_vec(value, FORMAT).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(
        decode_from_slice::<T, _>(&ours, FORMAT).unwrap(),
        (decode(Input::whole(&mut theirs.clone())).unwrap(), ours.len())
    );
    assert_eq!(&decode::<T>(Input::whole(&mut ours)).unwrap(), value);
}

proptest! {
    #[test]
    fn our_bytes_are_those_of_bincode(value in value()) {
        same(&value);
    }

    #[test]
    fn vectors_of_numbers_are_those_of_bincode(
        unsigned in any::<(Vec<u8>, Vec<u16>, Vec<u32>, Vec<u64>, Vec<u128>, Vec<usize>)>(),
        signed in any::<(Vec<i8>, Vec<i16>, Vec<i32>, Vec<i64>, Vec<i128>, Vec<isize>)>(),
        floats in prop::collection::vec(any::<(f32, f64)>(), 0..50),
    ) {
        let floats: (Vec<f32>, Vec<f64>) = floats.into_iter().unzip();
        same(&unsigned.0);
        same(&signed.4);
        same(&(unsigned, floats, signed));
    }

    #[test]
    fn arrays_of_numbers_are_those_of_bincode(
        unsigned in any::<([u8; 32], [u16; 3], [u32; 1], [u64; 8], [u128; 2], [usize; 5])>(),
        signed in any::<(i16, [i8; 7], [i64; 2])>(),
    ) {
        let floats = unsigned.3.map(|bits| f64::from((bits >> 40) as u32));
        same(&unsigned.0);
        same(&vec![unsigned.1; 3]);
        same(&(unsigned, floats, signed));
    }

    /// We accept and refuse the same bytes as bincode, except where the module promises more.
    #[test]
    fn bytes_of_chance_mean_the_same(bytes in prop::collection::vec(prop_oneof![0..3_u8, any::<u8>()], 0..64)) {
        type Small = (Result<Option<char>, bool>, (u16, [i8; 2]));
        let theirs = decode_from_slice::<Small, _>(&bytes, FORMAT).ok().filter(|(_, length)| *length == bytes.len());
        let ours = decode::<Small>(Input::whole(&mut bytes.clone())).ok();
        prop_assert_eq!(theirs.map(|(value, _)| value), ours);
    }
}

#[test]
fn floats_are_those_of_bincode() {
    for bits in [0, 1, 0x7FF0_0000_0000_0001, 0x8000_0000_0000_0000, u64::MAX] {
        let value = (f64::from_bits(bits), f32::from_bits((bits >> 32) as u32));
        let mut ours = Vec::new();
        encode_to(&value, &mut ours).unwrap();
        assert_eq!(ours, encode_to_vec(value, FORMAT).unwrap());
        let back: (f64, f32) = decode(Input::whole(&mut ours)).unwrap();
        assert_eq!((back.0.to_bits(), back.1.to_bits()), (value.0.to_bits(), value.1.to_bits()));
    }
}
