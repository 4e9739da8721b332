use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Travel;
use crate::codec::{self, Input};

fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).unwrap();
    bytes
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> T {
    codec::decode(Input::whole(&mut bytes.to_vec())).unwrap()
}

/// Whichever form was encoded, the owned one decodes it.
#[track_caller]
fn travels_in_both_forms<T: Travel + Serialize + ?Sized>(borrowed: &T, owned: T::Owned)
where
    T::Owned: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let lent = bytes_of(&(borrowed, 7_u8));
    assert_eq!(lent, bytes_of(&(&owned, 7_u8)));
    assert_eq!(decoded::<(T::Owned, u8)>(&lent), (owned, 7));
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
