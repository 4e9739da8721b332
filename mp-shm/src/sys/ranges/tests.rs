use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::sys::memfd;

/// A file, by two descriptions.
fn two() -> (OwnedFd, OwnedFd) {
    let one = memfd::create(4096).unwrap();
    let other = memfd::reopen(one.as_fd()).unwrap();
    (one, other)
}

fn takes(file: &OwnedFd, bytes: Range<u64>) -> bool {
    try_take(file.as_fd(), bytes).unwrap()
}

#[test]
fn a_byte_has_one_owner() {
    let (one, other) = two();
    assert!(takes(&one, 10..20));
    assert!(takes(&one, 10..20), "it has them");
    for overlapping in [10..20, 0..11, 19..30, 12..13, 0..4096] {
        assert!(!takes(&other, overlapping.clone()), "{overlapping:?}");
    }
    // What is refused is refused as a whole.
    assert!(takes(&one, 0..10) && takes(&one, 20..30));
    give_back(one.as_fd(), 0..30).unwrap();
    assert!(takes(&other, 0..10) && takes(&one, 10..20) && takes(&other, 20..4096));
}

#[test]
fn parts_can_be_given_back() {
    let (one, other) = two();
    assert!(takes(&one, 0..100));
    give_back(one.as_fd(), 40..60).unwrap();
    assert!(takes(&other, 40..60));
    assert!(!takes(&other, 39..40) && !takes(&other, 60..61) && !takes(&one, 0..100));
}

#[test]
fn no_bytes_are_always_to_be_had_and_are_not_the_rest_of_the_file() {
    let (one, other) = two();
    assert!(takes(&one, 5..5) && takes(&other, 0..4096));
    assert!(takes(&one, 5..5));
    give_back(other.as_fd(), 7..7).unwrap();
    assert!(!takes(&one, 7..8));
}

#[test]
fn bytes_go_back_with_the_last_descriptor_of_the_description() {
    let (one, other) = two();
    let copy = memfd::duplicate(one.as_fd()).unwrap();
    assert!(takes(&one, 0..10));
    assert!(takes(&copy, 0..10), "it is the same description");
    drop(one);
    assert!(!takes(&other, 0..10));
    drop(copy);
    assert!(takes(&other, 0..10));
}

#[test]
fn what_has_no_place_in_a_file_is_an_error() {
    let (one, _) = two();
    let last = i64::MAX as u64;
    assert!(takes(&one, last - 1..last));
    for bytes in [last + 1..last + 2, 0..u64::MAX, u64::MAX - 1..u64::MAX, 1..last + 3] {
        let error = try_take(one.as_fd(), bytes.clone()).unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::InvalidInput) || error.raw_os_error() == Some(libc::EOVERFLOW),
            "{bytes:?}: {error}"
        );
    }
    // A range that ends before it begins has no bytes.
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 9..3;
    assert!(takes(&one, reversed));
}
