//! Vectors, slices and arrays of numbers.

use std::collections::VecDeque;
use std::fmt;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::{EncodeError, Output, encode_to};
use super::{Newtype, bytes_of, length, round_trip, round_trip_without_truncation, value_of, value_of_file};

/// Counts how often something is written.
struct Writes(usize);

impl Output for Writes {
    fn write(&mut self, _: &[u8]) -> Result<(), EncodeError> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn numbers_are_written_at_once_and_look_as_if_one_by_one() {
    #[derive(Serialize)]
    struct Holder<'a> {
        field: Vec<u8>,
        borrowed: &'a [i32],
        optional: Option<Vec<u64>>,
        result: Result<Vec<f32>, ()>,
    }
    let writes = |value: &dyn Fn(&mut Writes) -> Result<(), EncodeError>| {
        let mut writes = Writes(0);
        value(&mut writes).unwrap();
        writes.0
    };
    let numbers = [1.5_f64; 1000];
    assert_eq!(writes(&|output| encode_to(&numbers.to_vec(), output)), 2, "the length and the bytes");
    assert_eq!(writes(&|output| encode_to(&numbers[..], output)), 2);
    assert_eq!(writes(&|output| encode_to(&(&numbers[..], 1_u8), output)), 3);
    assert_eq!(writes(&|output| encode_to(&vec![numbers.to_vec(); 3], output)), 7);
    let holder = Holder {
        field: vec![1; 1000],
        borrowed: &[2; 1000],
        optional: Some(vec![3; 1000]),
        result: Ok(vec![4.0; 1000]),
    };
    assert_eq!(writes(&|output| encode_to(&holder, output)), 10);
    // An array is a tuple, and its length is no part of it.
    assert_eq!(writes(&|output| encode_to(&[1.5_f64; 32], output)), 1);
    assert_eq!(writes(&|output| encode_to(&([1_u8; 20], [[2_u16; 3]; 2]), output)), 3);
    assert_eq!(bytes_of(&[1_u16, 2]), [1, 0, 2, 0]);
    let texts: Vec<String> = numbers.iter().map(f64::to_string).collect();
    let one_by_one: Vec<Newtype> = vec![Newtype(7); 300];
    assert_eq!(bytes_of(&vec![7_u16; 300]), bytes_of(&one_by_one));
    assert_eq!(value_of::<Vec<Newtype>>(&bytes_of(&vec![7_u16; 300])), Ok(one_by_one));
    round_trip_without_truncation(texts);
}

#[test]
fn numbers_that_are_not_there_are_an_error() {
    for announced in [3, 1 << 20, 1 << 40, u64::MAX / 8, u64::MAX] {
        let bytes = [&length(announced)[..], &[0; 17]].concat();
        for error in [
            value_of::<Vec<u64>>(&bytes).unwrap_err(),
            value_of::<Vec<f64>>(&bytes).unwrap_err(),
            value_of::<(Vec<u128>, u8)>(&bytes).unwrap_err(),
            value_of_file::<Vec<u64>>(&bytes, 16).unwrap_err(),
        ] {
            assert!(error.contains("bytes too early"), "{error}");
        }
    }
    assert_eq!(value_of::<Vec<u64>>(&length(0)), Ok(vec![]));
    let error = value_of::<Vec<u16>>(&[&length(1)[..], &[0; 3]].concat()).unwrap_err();
    assert!(error.contains("1 bytes too long"), "{error}");
}

#[test]
fn what_a_type_says_of_its_numbers_holds() {
    fn halves<S: Serializer>(numbers: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbers.iter().map(|number| number / 2))
    }
    fn doubled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(Vec::<u8>::deserialize(deserializer)?.iter().map(|number| number * 2).collect())
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Special(#[serde(serialize_with = "halves", deserialize_with = "doubled")] Vec<u8>, Vec<u8>);
    let value = Special(vec![3, 4], vec![3, 4]);
    let bytes = bytes_of(&value);
    assert_eq!(bytes, [&length(2)[..], &[1, 2], &length(2), &[3, 4]].concat());
    assert_eq!(value_of::<Special>(&bytes), Ok(Special(vec![2, 4], vec![3, 4])));
}

/// Reads numbers of its own in a sequence: the elements doubled.
struct Doubling;

impl<'de> Visitor<'de> for Doubling {
    type Value = Vec<u16>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<u16>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = elements.next_element::<u16>()? {
            numbers.push(number * 2);
        }
        Ok(numbers)
    }
}

#[test]
fn numbers_are_read_at_once_wherever_serde_decodes_a_vector() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(Vec<u64>);
    /// How many bytes too early the message ends: all that are missing, or those of one number.
    fn missing<T: DeserializeOwned + fmt::Debug>(before: &[u8]) -> String {
        value_of::<T>(&[before, &length(1000), &[0; 17]].concat()).unwrap_err()
    }
    let at_once = "7983 bytes too early";
    for error in [
        missing::<Vec<u64>>(&[]),
        missing::<Wrapped>(&[]),
        missing::<Box<Vec<f64>>>(&[]),
        missing::<Option<Vec<i64>>>(&[1]),
        missing::<Option<Wrapped>>(&[1]),
        missing::<(u8, Option<Vec<usize>>)>(&[0, 1]),
        missing::<Result<Vec<isize>, ()>>(&[0; 4]),
    ] {
        assert!(error.contains(at_once), "{error}");
    }
    assert!(!missing::<VecDeque<u64>>(&[]).contains(at_once));
    round_trip(Some(Wrapped(vec![1, 2])));
    round_trip((Some(vec![1_u128, 2]), Box::new(vec![-1_i8])));

    fn doubled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
        deserializer.deserialize_seq(Doubling)
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Special(#[serde(deserialize_with = "doubled")] Vec<u16>);
    assert_eq!(value_of::<Special>(&bytes_of(&vec![3_u16, 4])), Ok(Special(vec![6, 8])));
}

#[test]
fn arrays_of_numbers_come_back() {
    round_trip([7_u8; 32]);
    round_trip([[1.5_f32, -0.0, 2.0]; 2]);
    round_trip(([u128::MAX, 1], [-1_i8], [0_usize; 3]));
    round_trip(vec![Some([1_i64, 2]); 3]);
    round_trip(([true, false], ['x'; 2], [(1_u8, 2_u8); 2]));
    let error = value_of::<[u64; 3]>(&[0; 17]).unwrap_err();
    assert!(error.contains("7 bytes too early"), "{error}");
    assert_eq!(value_of_file::<([u64; 32], u8)>(&[3; 257], 16), Ok(([0x0303_0303_0303_0303; 32], 3)));
    assert!(value_of_file::<[u64; 32]>(&[3; 255], 16).is_err());
}

#[test]
fn what_a_type_says_of_its_array_holds() {
    fn halves<S: Serializer>(numbers: &[u8; 2], serializer: S) -> Result<S::Ok, S::Error> {
        numbers.map(|number| number / 2).serialize(serializer)
    }
    struct Doubled;
    impl<'de> Visitor<'de> for Doubled {
        type Value = [u8; 2];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("two numbers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[u8; 2], A::Error> {
            let mut next = || elements.next_element::<u8>().map(|number| number.unwrap_or_default() * 2);
            Ok([next()?, next()?])
        }
    }
    fn doubled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 2], D::Error> {
        deserializer.deserialize_tuple(2, Doubled)
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Special(#[serde(serialize_with = "halves", deserialize_with = "doubled")] [u8; 2], [u8; 2]);
    let bytes = bytes_of(&Special([3, 4], [3, 4]));
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(value_of::<Special>(&bytes), Ok(Special([2, 4], [3, 4])));
}
