use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Lent, Received, Travel};
use crate::codec::{self, Input};

fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).unwrap();
    bytes
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> T {
    codec::decode(Input::whole(&mut bytes.to_vec())).unwrap()
}

/// Whichever form was encoded, each of the two decodes it.
#[track_caller]
fn travels_in_both_forms<T: Travel + ?Sized>(borrowed: &T, owned: T::Owned)
where
    T::Owned: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let lent = bytes_of(&Lent(borrowed));
    assert_eq!(lent, bytes_of(&owned));
    assert_eq!(decoded::<T::Owned>(&lent), owned);
    assert_eq!(decoded::<Received<T>>(&lent).0, owned);
}

#[test]
fn every_referent_is_encoded_as_its_owned_form() {
    travels_in_both_forms("", String::new());
    travels_in_both_forms("text ü", "text ü".to_owned());
    travels_in_both_forms(&[1_u32, 2, 3][..], vec![1, 2, 3]);
    travels_in_both_forms(&["a".to_owned()][..], vec!["a".to_owned()]);
    travels_in_both_forms(&[(), ()][..], vec![(), ()]);
    travels_in_both_forms(Path::new("/a/b"), "/a/b".into());
    travels_in_both_forms(OsStr::from_bytes(b"not \xFF UTF-8"), OsString::from(OsStr::from_bytes(b"not \xFF UTF-8")));
    travels_in_both_forms(c"C", CString::from(c"C"));
    travels_in_both_forms::<CStr>(c"", CString::default());
    travels_in_both_forms(&Some(7_u64), Some(7));
    travels_in_both_forms(&vec![1_u8, 2], vec![1, 2]);
    travels_in_both_forms(&[1_u16; 3], [1; 3]);
}

#[test]
fn bytes_are_written_at_once_and_look_as_if_one_by_one() {
    for length in [0, 1, 254, 255, 256, 70_000] {
        let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
        travels_in_both_forms(&bytes[..], bytes.clone());
        let integers: Vec<i8> = bytes.iter().map(|byte| *byte as i8).collect();
        travels_in_both_forms(&integers[..], integers.clone());
    }
    /// Counts how often something is written.
    struct Writes(usize);
    impl codec::Output for Writes {
        fn write(&mut self, _: &[u8]) -> Result<(), codec::EncodeError> {
            self.0 += 1;
            Ok(())
        }
    }
    let mut writes = Writes(0);
    codec::encode(&Lent(&[0_u8; 1000][..]), &mut writes).unwrap();
    assert_eq!(writes.0, 2, "the length and the bytes");
}

#[test]
fn damaged_bytes_are_an_error() {
    fn refused<T: Travel + ?Sized>(length: u64, bytes: &[u8]) {
        let mut bytes = [&length.to_le_bytes()[..], bytes].concat();
        assert!(codec::decode::<Received<T>>(Input::whole(&mut bytes)).is_err());
    }
    for (length, bytes) in [(3, &[1, 2][..]), (u64::MAX, &[0]), (1, &[2, 3]), (1, &[])] {
        refused::<[u8]>(length, bytes);
    }
    refused::<str>(1, &[0xFF]);
    refused::<CStr>(2, &[0, 1]);
    assert!(codec::decode::<Received<[u8]>>(Input::whole(&mut [])).is_err());
}
