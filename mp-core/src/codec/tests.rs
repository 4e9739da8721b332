//! The format: what goes in comes out, and what did not go in is an error.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{LONG, MAX_DEPTH, decode, encode};

fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode(value, &mut bytes).unwrap().is_empty());
    bytes
}

fn value_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    decode(bytes, Vec::new()).map_err(|error| error.to_string())
}

/// A value comes back the same, and no beginning of its bytes is a value, nor are they with one more.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    let mut bytes = bytes_of(&value);
    assert_eq!(value_of::<T>(&bytes).as_ref(), Ok(&value));
    for length in 0..bytes.len() {
        value_of::<T>(&bytes[..length]).unwrap_err();
    }
    bytes.push(0);
    let error = value_of::<T>(&bytes).unwrap_err();
    assert!(error.contains("1 bytes are left over"), "{error}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UnitStruct;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(char, Option<Newtype>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    unit: (),
    empty: UnitStruct,
    pair: Pair,
    list: Vec<Shape>,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(skip)]
    skipped: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Box<Shape>),
    Tuple(i8, String),
    Struct { a: bool, b: [u16; 3] },
}

fn fields() -> Fields {
    let list = vec![
        Shape::Unit,
        Shape::Newtype(Box::new(Shape::Newtype(Box::new(Shape::Unit)))),
        Shape::Tuple(-1, "ü".to_owned()),
        Shape::Struct { a: true, b: [1, 2, u16::MAX] },
    ];
    let pair = Pair('\u{10FFFF}', Some(Newtype(7)));
    Fields { unit: (), empty: UnitStruct, pair, list, bytes: vec![0, 255, 3], skipped: 0 }
}

#[test]
fn numbers_come_back() {
    round_trip((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    round_trip((i8::MAX, i16::MAX, i32::MAX, i64::MAX, i128::MAX, isize::MAX));
    round_trip((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    round_trip((0_u8, 1_u16, 2_u32, 3_u64, 4_u128));
    round_trip((false, true));
    round_trip((f32::MIN_POSITIVE, f64::MAX, f32::INFINITY, f64::NEG_INFINITY));
}

#[test]
fn floats_keep_every_bit() {
    for bits in [0x7FC0_0001_u32, 0xFF80_0001, 0x8000_0000, 1] {
        assert_eq!(value_of::<f32>(&bytes_of(&f32::from_bits(bits))).unwrap().to_bits(), bits);
        let bits = u64::from(bits) << 32 | 5;
        assert_eq!(value_of::<f64>(&bytes_of(&f64::from_bits(bits))).unwrap().to_bits(), bits);
    }
}

#[test]
fn every_shape_comes_back() {
    for character in ['\0', 'a', '\u{D7FF}', '\u{E000}', '\u{10FFFF}'] {
        round_trip(character);
    }
    round_trip(fields());
    fields().list.into_iter().for_each(round_trip);
    round_trip(Some(Some(None::<Option<u8>>)));
    round_trip((Some(()), None::<u8>));
    round_trip(Ok::<Vec<u8>, String>(vec![1]));
    round_trip(Err::<u8, String>("no".to_owned()));
    round_trip((vec![(); 3], [(); 0]));
    round_trip([[1_u8, 2], [3, 4]]);
    round_trip((String::new(), "\0\n\u{1F600}".to_owned()));
    round_trip(BTreeMap::from([("a".to_owned(), vec![1_u8]), (String::new(), vec![])]));
    round_trip(HashMap::from([((1_u8, 'x'), Newtype(3)), ((2, 'y'), Newtype(4))]));
    round_trip((Duration::MAX, SystemTime::UNIX_EPOCH));
    round_trip((std::net::IpAddr::from([127, 0, 0, 1]), std::path::PathBuf::from("/tmp")));
    round_trip(PhantomData::<u8>);
}

#[test]
fn what_is_skipped_is_made_anew() {
    let value = Fields { skipped: 5, ..fields() };
    assert_eq!(value_of::<Fields>(&bytes_of(&value)), Ok(fields()));
}

#[test]
fn the_format_is_as_documented() {
    assert_eq!(bytes_of(&0x0102_0304_u32), [4, 3, 2, 1]);
    assert_eq!(bytes_of("ab"), [2, b'a', b'b']);
    assert_eq!(bytes_of(&(Some(1_u8), None::<u8>)), [1, 1, 0]);
    assert_eq!(bytes_of(&Shape::Tuple(2, String::new())), [2, 2, 0]);
    assert!(bytes_of(&((), UnitStruct)).is_empty());
    let lengths = |length: usize| bytes_of(&vec![(); length]);
    assert_eq!(lengths(254), [254]);
    assert_eq!(lengths(255), [LONG, 255, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lengths(0x1_0000), [LONG, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn lengths_come_back_on_both_sides_of_the_short_form() {
    for length in [0, 1, 253, 254, 255, 256, 300, 70_000] {
        let text = "x".repeat(length);
        assert_eq!(value_of::<String>(&bytes_of(&text)), Ok(text));
        let list: Vec<u16> = (0..length).map(|index| index as u16).collect();
        assert_eq!(value_of::<Vec<u16>>(&bytes_of(&list)), Ok(list));
    }
}

#[test]
fn what_no_value_encodes_to_is_an_error() {
    #[track_caller]
    fn refused<T: DeserializeOwned + fmt::Debug>(bytes: &[u8], why: &str) {
        let error = value_of::<T>(bytes).unwrap_err();
        assert!(error.contains(why), "{error:?} does not say {why:?}");
    }
    refused::<bool>(&[2], "2 is no bool");
    refused::<Option<u8>>(&[7, 0], "7 is no Option");
    refused::<char>(&0xD800_u32.to_le_bytes(), "0xd800 is no char");
    refused::<char>(&u32::MAX.to_le_bytes(), "is no char");
    refused::<String>(&[2, 0xC3, 0x28], "utf-8");
    refused::<Shape>(&[4], "variant");
    refused::<Shape>(&[LONG, 255, 255, 255, 255, 255, 255, 255, 255], "variant");
    refused::<Result<u8, u8>>(&[2, 0], "integer `2`");
    refused::<[u8; 3]>(&[1, 2], "1 more bytes");
    refused::<std::num::NonZeroU8>(&[0], "nonzero");
    refused::<u8>(&[], "the message has 0");
}

#[test]
fn a_value_that_does_not_say_its_type_cannot_be_decoded() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        #[expect(dead_code, reason = "decoding fails")]
        Number(u8),
    }
    let error = value_of::<Untagged>(&[1]).unwrap_err();
    assert!(error.contains("does not describe itself"), "{error}");
    let error = value_of::<serde_json::Value>(&[1]).unwrap_err();
    assert!(error.contains("does not describe itself"), "{error}");
    let error = value_of::<serde::de::IgnoredAny>(&[1]).unwrap_err();
    assert!(error.contains("does not describe itself"), "{error}");
}

#[test]
fn what_would_be_decoded_as_something_else_is_not_encoded() {
    #[derive(Serialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
    }
    #[derive(Serialize)]
    enum SparseVariant {
        Variant {
            #[serde(skip_serializing_if = "Option::is_none")]
            absent: Option<u8>,
        },
    }
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        map: BTreeMap<String, u8>,
    }
    struct OfUnknownLength;
    impl Serialize for OfUnknownLength {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0..3).filter(|_| true))
        }
    }
    #[track_caller]
    fn refused(value: &impl Serialize, why: &str) {
        let error = encode(value, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(bytes_of(&Sparse { absent: Some(3) }), [1, 3]);
    refused(&Sparse { absent: None }, "`absent`");
    refused(&SparseVariant::Variant { absent: None }, "`absent`");
    refused(&Flat { map: BTreeMap::new() }, "flatten");
    refused(&OfUnknownLength, "must know its length");
}

/// Claims to be as long as it is told, and counts what it is given a hint of.
struct Hinted;

impl<'de> Deserialize<'de> for Hinted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hint;
        impl<'de> Visitor<'de> for Hint {
            type Value = Hinted;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a sequence or a map")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, elements: A) -> Result<Hinted, A::Error> {
                Err(serde::de::Error::custom(format_args!("hint {}", elements.size_hint().unwrap())))
            }
        }
        deserializer.deserialize_seq(Hint)
    }
}

#[test]
fn a_length_never_promises_more_elements_than_there_are_bytes() {
    for length in [u64::MAX, 1 << 40, 1_000] {
        let mut bytes = vec![LONG];
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 10]);
        assert_eq!(value_of::<Hinted>(&bytes).map(|_| ()), Err("hint 10".to_owned()));
        value_of::<Vec<[u64; 32]>>(&bytes).unwrap_err();
        value_of::<String>(&bytes).unwrap_err();
        value_of::<serde_bytes::ByteBuf>(&bytes).unwrap_err();
        value_of::<BTreeMap<u64, u64>>(&bytes).unwrap_err();
        value_of::<Vec<Vec<u8>>>(&bytes).unwrap_err();
    }
}

#[test]
fn sequences_inside_each_other_share_what_the_bytes_can_hold() {
    thread_local! {
        static RESERVED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    struct Inside;
    impl<'de> Deserialize<'de> for Inside {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Count;
            impl<'de> Visitor<'de> for Count {
                type Value = Inside;
                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("a sequence of the same")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut elements: A) -> Result<Inside, A::Error> {
                    RESERVED.set(RESERVED.get() + elements.size_hint().unwrap());
                    while elements.next_element::<Inside>()?.is_some() {}
                    Ok(Inside)
                }
            }
            deserializer.deserialize_seq(Count)
        }
    }
    // Each level announces as much as there is.
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..500 {
        bytes.push(LONG);
        bytes.extend(u64::MAX.to_le_bytes());
    }
    bytes.resize(65_536, 0);
    assert!(value_of::<Inside>(&bytes).is_err());
    let reserved = RESERVED.get();
    assert!(reserved >= 65_000 && reserved < 7 * bytes.len(), "{reserved} elements");
}

#[test]
fn long_texts_and_byte_strings_come_back() {
    for length in [(64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20] {
        let text: String = "ab".chars().cycle().take(length).collect();
        round_trip_without_truncation((
            text.clone(),
            serde_bytes::ByteBuf::from(text.clone().into_bytes()),
            Some(text),
        ));
    }
    let mut bytes = bytes_of(&"a".repeat(100_000));
    *bytes.last_mut().unwrap() = 0xFF;
    assert!(value_of::<String>(&bytes).unwrap_err().contains("utf-8"));
}

#[test]
fn elements_without_bytes_are_bounded() {
    let of = |length: u64| {
        let mut bytes = vec![LONG];
        bytes.extend(length.to_le_bytes());
        bytes
    };
    assert_eq!(value_of::<Vec<()>>(&of(1 << 20)).unwrap().len(), 1 << 20);
    for length in [1 << 24, u64::MAX] {
        let error = value_of::<Vec<()>>(&of(length)).unwrap_err();
        assert!(error.contains("take no bytes"), "{error}");
        let error = value_of::<Vec<UnitStruct>>(&of(length)).unwrap_err();
        assert!(error.contains("take no bytes"), "{error}");
        // Nor by nesting: lists of lists of nothing.
        let nested: Vec<u8> = std::iter::once(3).chain((0..3).flat_map(|_| of(length / 2))).collect();
        value_of::<Vec<Vec<[(); 0]>>>(&nested).unwrap_err();
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Deep(Vec<Deep>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum DeepEnum {
    End,
    Next(Box<DeepEnum>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DeepOption(Option<Box<DeepOption>>);

/// `levels` of an enum inside an enum.
fn deep(levels: u32) -> DeepEnum {
    (0..levels).fold(DeepEnum::End, |inner, _| DeepEnum::Next(Box::new(inner)))
}

#[test]
fn nesting_has_the_same_limit_on_both_sides() {
    let deepest = deep(MAX_DEPTH);
    let mut bytes = bytes_of(&deepest);
    assert_eq!(value_of::<DeepEnum>(&bytes), Ok(deepest));
    bytes.insert(0, 1);
    let error = value_of::<DeepEnum>(&bytes).unwrap_err();
    assert!(error.contains("nested more than 512"), "{error}");
    let error = encode(&deep(MAX_DEPTH + 1), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("nested more than 512"), "{error}");
}

#[test]
fn nesting_of_every_kind_is_bounded() {
    // Of each, far more levels than are allowed, which would take the stack along if they were followed.
    let levels = 1_000_000;
    let error = value_of::<Deep>(&vec![1; levels]).unwrap_err();
    assert!(error.contains("nested"), "{error}");
    let error = value_of::<DeepOption>(&vec![1; levels]).unwrap_err();
    assert!(error.contains("nested"), "{error}");
    let error = value_of::<DeepEnum>(&vec![1; levels]).unwrap_err();
    assert!(error.contains("nested"), "{error}");
}

#[test]
fn depth_counts_what_is_inside_and_not_what_is_beside() {
    let wide: Vec<Vec<Option<u8>>> = vec![vec![Some(1); 3]; 2_000];
    round_trip_without_truncation(wide);
}

#[track_caller]
fn round_trip_without_truncation<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    assert_eq!(value_of::<T>(&bytes_of(&value)), Ok(value));
}

/// Numbers that are the same in every run: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[test]
fn bytes_of_chance_are_an_error_or_a_value_that_comes_back() {
    type Everything = (Fields, Vec<Shape>, BTreeMap<String, Option<i128>>, Result<char, bool>, Option<Vec<u64>>);
    let mut values = 0;
    for seed in 1..=50_000 {
        let mut random = Random(seed);
        let length = random.next() % 64;
        // Mostly small numbers, which are lengths and variants.
        let bound = if random.next() % 2 == 0 { 4 } else { 256 };
        let bytes: Vec<u8> = (0..length).map(|_| (random.next() % bound) as u8).collect();
        value_of::<Everything>(&bytes).map(round_trip_without_truncation).ok();
        if let Ok(value) = value_of::<Vec<Shape>>(&bytes) {
            round_trip_without_truncation(value);
            values += 1;
        }
    }
    assert!(values > 100, "only {values} were values at all");
}

#[test]
fn damaged_bytes_of_a_value_are_an_error_or_another_value() {
    let good = bytes_of(&fields());
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << bit;
            if let Ok(value) = value_of::<Fields>(&bytes) {
                assert_ne!(value, fields());
            }
        }
    }
}
