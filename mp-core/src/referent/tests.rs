use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::EncodableReferent;
use crate::codec::{self, Input};

fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_to(value, &mut bytes).unwrap();
    bytes
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> T {
    codec::decode(Input::whole(&mut bytes.to_vec())).unwrap()
}

/// Whichever form was encoded, the owned one decodes it.
#[track_caller]
fn both_forms_are_encoded_alike<T: EncodableReferent + Serialize + ?Sized>(borrowed: &T, owned: T::Owned)
where
    T::Owned: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let lent = bytes_of(&(borrowed, 7_u8));
    assert_eq!(lent, bytes_of(&(&owned, 7_u8)));
    assert_eq!(decoded::<(T::Owned, u8)>(&lent), (owned, 7));
}

#[test]
fn every_referent_is_encoded_as_its_owned_form() {
    both_forms_are_encoded_alike("", String::new());
    both_forms_are_encoded_alike("text ü", "text ü".to_owned());
    both_forms_are_encoded_alike(&[1_u32, 2, 3][..], vec![1, 2, 3]);
    both_forms_are_encoded_alike(&["a".to_owned()][..], vec!["a".to_owned()]);
    both_forms_are_encoded_alike(&[(), ()][..], vec![(), ()]);
    both_forms_are_encoded_alike(Path::new("/a/b"), "/a/b".into());
    both_forms_are_encoded_alike(
        OsStr::from_bytes(b"not \xFF UTF-8"),
        OsString::from(OsStr::from_bytes(b"not \xFF UTF-8")),
    );
    both_forms_are_encoded_alike(c"C", CString::from(c"C"));
    both_forms_are_encoded_alike::<CStr>(c"", CString::default());
    both_forms_are_encoded_alike(&Some(7_u64), Some(7));
    both_forms_are_encoded_alike(&vec![1_u8, 2], vec![1, 2]);
    both_forms_are_encoded_alike(&[1_u16; 3], [1; 3]);
}
