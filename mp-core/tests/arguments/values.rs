//! Arguments go to a process and its result comes back, whatever their shape.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use mp_core::process_fn;
use mp_testing::scenario;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(String),
    Tuple(u8, i64),
    Struct { inner: Option<Box<Shape>>, numbers: Vec<f64> },
}

#[process_fn]
fn no_arguments() -> Box<str> {
    "a constant".into()
}

#[process_fn]
fn give_back(shape: Shape) -> Shape {
    shape
}

#[process_fn]
#[expect(clippy::too_many_arguments, reason = "it is to have as many as are allowed")]
fn add_all(a: u8, b: u16, c: u32, d: u64, e: u128, f: i8, g: i16, h: i32, i: i64, j: i128, k: usize, l: isize) -> i128 {
    let unsigned = i128::from(a) + i128::from(b) + i128::from(c) + i128::from(d) + e as i128;
    let signed = i128::from(f) + i128::from(g) + i128::from(h) + i128::from(i) + j;
    unsigned + signed + k as i128 + l as i128
}

#[process_fn]
fn many_kinds(
    map: BTreeMap<String, Vec<Option<char>>>,
    set: HashSet<IpAddr>,
    time: Duration,
) -> (usize, bool, Result<Duration, String>) {
    let characters = map.values().flatten().flatten().count();
    (characters, set.contains(&IpAddr::from([127, 0, 0, 1])), time.checked_mul(2).ok_or_else(|| "too long".to_owned()))
}

#[process_fn]
fn nothing_at_all(unit: (), array: [(); 3], list: Vec<()>) -> (Vec<()>, ()) {
    assert_eq!(array.len(), 3);
    (list, unit)
}

#[process_fn]
fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[process_fn]
fn fail(why: String) -> Result<u32, String> {
    Err(why)
}

scenario!(a_function_without_arguments_returns_its_value, {
    assert_eq!(&*no_arguments::spawn().unwrap().join().unwrap(), "a constant");
});

scenario!(enums_come_back_as_they_went, {
    let nested = Shape::Struct { inner: Some(Box::new(Shape::Tuple(0, i64::MIN))), numbers: vec![0.5, f64::MAX] };
    for shape in [Shape::Unit, Shape::Newtype("ü\0".to_owned()), Shape::Tuple(255, -1), nested] {
        assert_eq!(give_back::spawn(shape.clone()).unwrap().join().unwrap(), shape);
    }
});

scenario!(twelve_arguments_arrive_in_their_places, {
    let sum = add_all::spawn(1, 2, 3, u64::MAX, 5, -6, -7, i32::MIN, 9, i128::from(i64::MIN), 11, -12).unwrap();
    let expected = add_all(1, 2, 3, u64::MAX, 5, -6, -7, i32::MIN, 9, i128::from(i64::MIN), 11, -12);
    assert_eq!(sum.join().unwrap(), expected);
});

scenario!(maps_sets_and_results_arrive, {
    let map = BTreeMap::from([("a".to_owned(), vec![Some('x'), None]), (String::new(), vec![Some('\u{10FFFF}')])]);
    let set = HashSet::from([IpAddr::from([127, 0, 0, 1])]);
    let process = many_kinds::spawn(map, set, Duration::MAX).unwrap();
    assert_eq!(process.join().unwrap(), (2, true, Err("too long".to_owned())));
});

scenario!(values_without_bytes_keep_their_number, {
    let process = nothing_at_all::spawn((), [(); 3], vec![(); 70_000]).unwrap();
    assert_eq!(process.join().unwrap().0.len(), 70_000);
});

scenario!(arguments_and_results_of_every_size_arrive, {
    const KIB: usize = 1 << 10;
    for size in [0, 1, 254, 255, 256, 16 * KIB - 9, 16 * KIB - 8, 64 * KIB, 256 * KIB + 1, (1 << 20) + 3] {
        let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let mut expected = bytes.clone();
        expected.reverse();
        let returned = reversed::spawn(bytes).unwrap().join().unwrap();
        assert!(returned == expected, "of {size} bytes");
    }
});

scenario!(an_error_that_a_function_returns_is_its_value, {
    let process = fail::spawn("for a reason".to_owned()).unwrap();
    assert_eq!(process.join().unwrap(), Err("for a reason".to_owned()));
});

#[test]
fn a_call_runs_here_as_it_runs_there() {
    let call = many_kinds::call(BTreeMap::new(), HashSet::new(), Duration::from_secs(2));
    let here = call.clone().run();
    let encoded: (usize, bool, Result<Duration, String>) = call.encode().unwrap().run().decode().unwrap();
    assert_eq!(here, encoded);
}
