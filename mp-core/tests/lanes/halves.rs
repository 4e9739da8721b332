//! A message of two halves, with something that happens between them on either side.

use std::cell::RefCell;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::{MIB, bytes};

/// Two halves of a message, with something that happens between them on either side.
pub(crate) struct Halves;

pub(crate) const HALF: usize = 2 * MIB;

thread_local! {
    static BETWEEN_WRITES: RefCell<Box<dyn FnMut() -> Result<(), String>>> = RefCell::new(Box::new(|| Ok(())));
    static BETWEEN_READS: RefCell<Box<dyn FnMut() -> Result<(), String>>> = RefCell::new(Box::new(|| Ok(())));
}

pub(crate) fn between_writes(action: impl FnMut() -> Result<(), String> + 'static) {
    BETWEEN_WRITES.set(Box::new(action));
}

pub(crate) fn between_reads(action: impl FnMut() -> Result<(), String> + 'static) {
    BETWEEN_READS.set(Box::new(action));
}

impl Serialize for Halves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(Bytes::new(&bytes(HALF, 1)))?;
        BETWEEN_WRITES.with_borrow_mut(|action| action()).map_err(S::Error::custom)?;
        tuple.serialize_element(Bytes::new(&bytes(HALF, 2)))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Halves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;

        impl<'de> Visitor<'de> for Both {
            type Value = Halves;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("two halves")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut halves: A) -> Result<Halves, A::Error> {
                assert!(halves.next_element::<ByteBuf>()?.unwrap() == bytes(HALF, 1));
                BETWEEN_READS.with_borrow_mut(|action| action()).map_err(A::Error::custom)?;
                let second = halves.next_element::<ByteBuf>()?.unwrap();
                assert!(second == bytes(HALF, 2));
                Ok(Halves)
            }
        }

        deserializer.deserialize_tuple(2, Both)
    }
}
