//! Bytes of chance are decoded as values of every shape; values of chance come back as they went.
//!
//! The first byte says as what, the second which descriptors are offered, described by the bytes
//! after it; the rest is decoded.

#![no_main]

use std::os::fd::OwnedFd;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use mp_core::__fuzzing::{Report, Start, decode, encode};
use mp_core::raw::{EncodedCall, Message, Outcome};
use mp_fuzz::descriptors::{Script, make};
use mp_fuzz::limits;
use mp_fuzz::values::{Anything, Handles, echo, look_into, look_into_outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| limits::hold(|| run(Script(data))));

fn run(mut script: Script<'_>) -> usize {
    let kind = script.byte();
    let mut handles: Vec<OwnedFd> = Vec::new();
    let mut weight = script.0.len();
    for _ in 0..script.byte() % 8 {
        let beside = make(&mut script);
        weight += beside.weight;
        handles.push(beside.fd);
    }
    let bytes = script.0;
    match kind % 8 {
        0 => drop(round_trip::<Anything>(bytes, handles)),
        1 => drop(round_trip::<Handles>(bytes, handles)),
        2 => round_trip::<Message>(bytes, handles).into_iter().for_each(look_into),
        3 => round_trip::<Start>(bytes, handles).into_iter().for_each(|start| call(start.into_call())),
        4 => {
            round_trip::<Report>(bytes, handles).and_then(Report::into_outcome).into_iter().for_each(look_into_outcome)
        }
        5 => drop(round_trip::<Vec<(u32, Option<String>)>>(bytes, handles)),
        6 => round_trip::<EncodedCall>(bytes, handles).into_iter().for_each(call),
        _ => {
            if let Ok(value) = Anything::arbitrary(&mut Unstructured::new(bytes)) {
                come_back(&value);
            }
        }
    }
    weight
}

/// Decodes a value. What was decoded can be encoded, and is the same after another round.
fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8], handles: Vec<OwnedFd>) -> Option<T> {
    let value: T = decode(bytes, handles).ok()?;
    let (once, handles) = encode(&value).expect("what was decoded can be encoded");
    let again: T = decode(&once, handles).expect("what was encoded can be decoded");
    let (twice, _) = encode(&again).expect("as before");
    assert_eq!(once, twice);
    Some(value)
}

fn call(call: EncodedCall) {
    if let Outcome::Returned(message) = call.run() {
        // There is one function only.
        let _ = message.decode::<<echo as mp_core::ProcessFn>::Output>().expect("what was returned can be decoded");
    }
}

/// What is nested too deeply is refused on both sides; everything else comes back, through a
/// message as well.
fn come_back(value: &Anything) {
    let Ok((bytes, handles)) = encode(value) else { return };
    assert_eq!(decode::<Anything>(&bytes, handles).as_ref(), Ok(value));
    let message = Message::encode(value).expect("it is no deeper than before");
    assert_eq!(message.decode::<Anything>().as_ref(), Ok(value));
}
