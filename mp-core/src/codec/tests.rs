//! The format: what goes in comes out, and what did not go in is an error.

mod numbers;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Input, MAX_DEPTH, decode, encode_to};
use crate::sys::memfd;

fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_to(value, &mut bytes).unwrap();
    bytes
}

fn value_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    decode(Input::whole(&mut bytes.to_vec())).map_err(|error| error.to_string())
}

/// A length, as it stands before a sequence.
fn length(length: u64) -> Vec<u8> {
    length.to_le_bytes().into()
}

/// A value comes back the same, and no beginning of its bytes is a value, nor are they with one
/// more.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    let mut bytes = bytes_of(&value);
    assert_eq!(value_of::<T>(&bytes).as_ref(), Ok(&value));
    for length in 0..bytes.len() {
        value_of::<T>(&bytes[..length]).unwrap_err();
    }
    bytes.push(0);
    let error = value_of::<T>(&bytes).unwrap_err();
    assert!(error.contains("1 bytes too long"), "{error}");
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
    assert_eq!(bytes_of(&(-2_isize, 3_usize)), [(-2_i64).to_le_bytes(), 3_u64.to_le_bytes()].concat());
    assert_eq!(bytes_of(&1.5_f32), 1.5_f32.to_le_bytes());
    assert_eq!(bytes_of(&(true, 'ü')), [1, 0xC3, 0xBC]);
    assert_eq!(bytes_of("ab"), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    assert_eq!(bytes_of(serde_bytes::Bytes::new(&[7, 8])), bytes_of(&[7_u8, 8][..]));
    assert_eq!(bytes_of(&(Some(1_u8), None::<u8>)), [1, 1, 0]);
    assert_eq!(bytes_of(&Shape::Tuple(2, String::new())), [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes_of(&BTreeMap::from([(1_u8, 2_u8), (3, 4)])), [2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(bytes_of(&([1_u8, 2], Newtype(3))), [1, 2, 3, 0]);
    assert!(bytes_of(&((), UnitStruct)).is_empty());
    assert_eq!(bytes_of(&vec![(); 0x1_0000]), [0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_no_value_encodes_to_is_an_error() {
    #[track_caller]
    fn refused<T: DeserializeOwned + fmt::Debug>(bytes: &[u8], why: &str) {
        let error = value_of::<T>(bytes).unwrap_err();
        assert!(error.contains(why), "{error:?} does not say {why:?}");
    }
    refused::<bool>(&[2], "2 is not a bool");
    refused::<Option<u8>>(&[7, 0], "7 is not an Option");
    // A surrogate, a byte that begins none, one in more bytes than it needs, and one that ends
    // early.
    refused::<char>(&[0xED, 0xA0, 0x80], "[ed, a0, 80, 00] is not a char");
    refused::<char>(&[0xFF; 4], "is not a char");
    refused::<char>(&[0xC0, 0x80], "is not a char");
    refused::<char>(&[0xC3], "1 bytes too early");
    refused::<String>(&[2, 0, 0, 0, 0, 0, 0, 0, 0xC3, 0x28], "utf-8");
    refused::<Shape>(&[4, 0, 0, 0], "variant");
    refused::<Shape>(&[255; 4], "variant");
    refused::<Result<u8, u8>>(&[2, 0, 0, 0, 0], "integer `2`");
    refused::<String>(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 2], "7 bytes too early");
    refused::<String>(&[255; 9], "bytes too early");
    refused::<[u8; 3]>(&[1, 2], "1 bytes too early");
    refused::<std::num::NonZeroU8>(&[0], "nonzero");
    refused::<u8>(&[], "1 bytes too early");
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
        let error = encode_to(value, &mut Vec::new()).unwrap_err().to_string();
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

            fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Hinted, A::Error> {
                Err(serde::de::Error::custom(format_args!("hint {}", elements.size_hint().unwrap())))
            }
        }
        deserializer.deserialize_seq(Hint)
    }
}

#[test]
fn a_length_never_promises_more_elements_than_there_are_bytes() {
    for announced in [u64::MAX, 1 << 40, 1 << 20, 1_000] {
        let mut bytes = length(announced);
        bytes.extend([0; 10]);
        let error = value_of::<Hinted>(&bytes).map(|_| ()).unwrap_err();
        assert!(if announced > 1 << 20 { error.contains("more elements") } else { error == "hint 10" }, "{error}");
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
                fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Inside, A::Error> {
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
        bytes.extend(length(1 << 16));
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

/// Decodes the same bytes out of a memory file, through a buffer of this length.
fn value_of_file<T: DeserializeOwned>(bytes: &[u8], buffer: usize) -> Result<T, String> {
    let mut file = memfd::MemoryFile::create().unwrap();
    file.append(bytes).unwrap();
    let file = memfd::Reader::new(file.reader(), bytes.len() as u64).unwrap();
    decode(Input::file(&mut vec![0; buffer], file)).map_err(|error| error.to_string())
}

#[test]
fn a_file_is_decoded_in_pieces_like_bytes_at_hand() {
    let text = "ab".repeat(20_000);
    let value = (
        vec![fields(); 3],
        text,
        0x0102_0304_u32,
        Some(serde_bytes::ByteBuf::from(vec![7; 70_000])),
        vec![u128::MAX; 3000],
        1.5_f64,
    );
    let mut bytes = bytes_of(&value);
    for buffer in [16, 17, 23, 64, 1000, 16 << 10, Input::AT_ONCE] {
        assert_eq!(value_of_file(&bytes, buffer).as_ref(), Ok(&value), "{buffer}");
    }
    fn same<T: DeserializeOwned + PartialEq + fmt::Debug>(_: &T, bytes: &[u8], buffer: usize) {
        assert_eq!(value_of_file::<T>(bytes, buffer), value_of(bytes), "{} {buffer}", bytes.len());
    }
    for buffer in [16, 1000] {
        for length in (0..bytes.len()).step_by(997) {
            same(&value, &bytes[..length], buffer);
        }
    }
    bytes.push(0);
    same(&value, &bytes, 16);
    let long = [&length(u64::MAX)[..], &[0; 100]].concat();
    same(&String::new(), &long, 64);
    same(&vec![0_u64], &long, 64);
    let many = [&length(1_000)[..], &[0; 100]].concat();
    assert_eq!(value_of_file::<Hinted>(&many, 64).map(|_| ()), Err("hint 100".to_owned()));
}

#[test]
fn elements_without_bytes_are_bounded() {
    assert_eq!(value_of::<Vec<()>>(&length(1 << 20)).unwrap().len(), 1 << 20);
    for announced in [1 << 24, u64::MAX] {
        let error = value_of::<Vec<()>>(&length(announced)).unwrap_err();
        assert!(error.contains("more elements"), "{error}");
        let error = value_of::<Vec<UnitStruct>>(&length(announced)).unwrap_err();
        assert!(error.contains("more elements"), "{error}");
        // Nor by nesting: lists of lists of nothing.
        let half = length(announced / 2);
        let nested = [&length(3), &half, &half, &half].map(Vec::as_slice).concat();
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
    bytes.splice(..0, [1, 0, 0, 0]);
    let error = value_of::<DeepEnum>(&bytes).unwrap_err();
    assert!(error.contains("nested more than 512"), "{error}");
    let error = encode_to(&deep(MAX_DEPTH + 1), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("nested more than 512"), "{error}");
}

#[test]
fn nesting_of_every_kind_is_bounded() {
    // Of each, far more levels than are allowed, which would take the stack along if they were
    // followed.
    let levels = 1_000_000;
    let error = value_of::<Deep>(&length(1).repeat(levels)).unwrap_err();
    assert!(error.contains("nested"), "{error}");
    let error = value_of::<DeepOption>(&vec![1; levels]).unwrap_err();
    assert!(error.contains("nested"), "{error}");
    let error = value_of::<DeepEnum>(&[1, 0, 0, 0].repeat(levels)).unwrap_err();
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
        let mut bytes = Vec::new();
        // Mostly small numbers as wide as lengths and variants are.
        for _ in 0..random.next() % 16 {
            let number = random.next() % 4;
            match random.next() % 4 {
                0 => bytes.extend(number.to_le_bytes()),
                1 | 2 => bytes.extend((number as u32).to_le_bytes()),
                _ => bytes.push(random.next() as u8),
            }
        }
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
