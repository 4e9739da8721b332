//! Values of every shape that serde knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use arbitrary::Arbitrary;
use mp_core::raw::{Message, Outcome};
use mp_core::{Connection, Receiver, Sender, process_fn};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Anything {
    Unit,
    Numbers(u8, i16, u32, i64, u128, i128),
    Bits(Bits),
    Text(String, Option<char>, bool),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Elements(Vec<u8>),
    Options(Option<Option<Option<()>>>),
    Nothings(Vec<()>),
    Nested(Vec<Anything>),
    Boxed(Box<Anything>),
    Map(BTreeMap<String, Anything>),
    Set(BTreeSet<(char, u16)>),
    Result(Result<Box<Anything>, String>),
    Struct { name: String, tuple: (u8, (), NonZeroU32), array: [i8; 3], rest: Option<Box<Anything>> },
    Foreign(Duration, Option<IpAddr>, PathBuf),
    Arrays(Vec<[u64; 4]>),
}

/// Floats, compared bit by bit.
#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize)]
pub struct Bits(f32, f64);

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        (self.0.to_bits(), self.1.to_bits()) == (other.0.to_bits(), other.1.to_bits())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Opened(#[serde(with = "mp_core::fd")] pub OwnedFd);

/// Handles of every kind.
#[derive(Debug, Serialize, Deserialize)]
pub enum Handles {
    File(Opened),
    Files(Vec<Opened>),
    Sender(Sender<u8>),
    Receiver(Option<Receiver<String>>),
    Connection { first: Connection<u8, u8>, rest: Box<Handles> },
    Message(Message),
    Messages(Vec<Message>),
}

/// What calls of chance are made of.
#[process_fn]
pub fn echo(value: Anything, bytes: ByteBuf) -> (Anything, ByteBuf) {
    (value, bytes)
}

/// Looks into a message as its receiver would.
pub fn look_into(message: Message) {
    let _ = message.has_descriptors();
    match message.encoded_len() % 3 {
        0 => drop(message.decode::<Anything>()),
        1 => drop(message.decode::<Handles>()),
        _ => drop(message.decode::<ByteBuf>()),
    }
}

pub fn look_into_outcome(outcome: Outcome) {
    drop(outcome.decode::<Anything>());
}

/// Samples that are encoded as the seeds of the targets.
pub fn samples() -> Vec<Anything> {
    let text = || "größer".to_owned();
    let mut deep = Anything::Unit;
    for _ in 0..40 {
        deep = Anything::Boxed(Box::new(deep));
    }
    vec![
        Anything::Unit,
        Anything::Numbers(1, -2, 3, -4, u128::MAX, i128::MIN),
        Anything::Bits(Bits(f32::NAN, -0.0)),
        Anything::Text(text(), Some('ß'), true),
        Anything::Bytes(vec![7; 300]),
        Anything::Elements(vec![1; 260]),
        Anything::Options(Some(Some(None))),
        Anything::Nothings(vec![(); 1000]),
        Anything::Nested(vec![Anything::Unit, Anything::Options(None), Anything::Nested(Vec::new())]),
        deep,
        Anything::Map(BTreeMap::from([(text(), Anything::Unit), (String::new(), Anything::Bytes(Vec::new()))])),
        Anything::Set(BTreeSet::from([('a', 1), ('\u{10FFFF}', 2)])),
        Anything::Result(Err(text())),
        Anything::Struct {
            name: text(),
            tuple: (1, (), NonZeroU32::MIN),
            array: [-1, 0, 1],
            rest: Some(Box::new(Anything::Unit)),
        },
        Anything::Foreign(Duration::from_millis(1500), Some([127, 0, 0, 1].into()), PathBuf::from("/dev/null")),
        Anything::Arrays(vec![[1, 2, 3, 4]; 3]),
    ]
}
