//! Values to bytes and back, in one process: what the guards of our codec cost beside bincode
//! without them.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use bincode::config;
use mp_core::raw::Message;
use mp_core::{Call, ProcessFn, process_fn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::row;
use crate::measure::{Contender, Role, Row, Run};
use crate::partner::failed;

/// How many values are encoded before as many are decoded, and the other way round, so that what is
/// not measured stays off the clock.
const BATCH: u32 = 8;

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    number: u64,
    customer: Option<u32>,
    state: State,
    lines: Vec<Item>,
    at: (f64, f64),
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    name: String,
    count: u16,
    price: i64,
}

#[derive(Clone, Serialize, Deserialize)]
enum State {
    New,
    Paid { by: String, amount: i64 },
    Sent(u32, bool),
}

fn orders() -> Vec<Order> {
    let item = |index: u64| Item { name: format!("item {index}"), count: index as u16, price: index as i64 * -99 };
    let order = |index: u64| Order {
        number: index << 20,
        customer: (!index.is_multiple_of(3)).then_some(index as u32),
        state: match index % 3 {
            0 => State::New,
            1 => State::Paid { by: "card".to_owned(), amount: 12_345 },
            _ => State::Sent(index as u32, true),
        },
        lines: (index..index + index % 4).map(item).collect(),
        at: (index as f64 / 7.0, -1.0),
    };
    (0..200).map(order).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let text = |index: u32| format!("a text of some length, number {index}");
    let map = (0..300).map(|index| (text(index), u64::from(index))).collect::<BTreeMap<_, _>>();
    [
        of("structs", orders()),
        of("strings", (0..300).map(text).collect::<Vec<_>>()),
        of("map", map),
        of("numbers", (0..1000).map(f64::from).collect::<Vec<_>>()),
        of("integers", (0..1000_u64).map(|index| index.pow(4)).collect::<Vec<_>>()),
        of("bytes", ByteBuf::from(vec![7; 10_000])),
        // Most of this is what a message takes for any value, so there is no goal.
        of("small", (7_u32, Some("text".to_owned()), true)),
    ]
    .into_iter()
    .flatten()
    .chain(calls())
    .collect()
}

#[process_fn]
fn bytes(value: Vec<u8>) -> Vec<u8> {
    value
}

#[process_fn]
fn numbers(value: Vec<f64>) -> Vec<f64> {
    value
}

#[process_fn]
fn buffer(value: ByteBuf) -> ByteBuf {
    value
}

/// Vectors of numbers as argument and result, beside as many bytes that say that they are bytes.
fn calls() -> Vec<Row> {
    let sizes = [("64-KiB", 64 << 10), ("16-MiB", 16 << 20)];
    let mut rows = Vec::new();
    for (name, size) in sizes {
        let beside = move || vec![Contender::limit("ByteBuf", 1.2, call(buffer::call(ByteBuf::from(vec![7; size]))))];
        rows.push(row(&format!("codec/call/bytes-{name}"), move |_| {
            let mut contenders = beside();
            contenders.push(Contender::ours("Vec<u8>", call(bytes::call(vec![7; size]))));
            contenders
        }));
        rows.push(row(&format!("codec/call/numbers-{name}"), move |_| {
            let mut contenders = beside();
            contenders.push(Contender::ours("Vec<f64>", call(numbers::call(vec![7.0; size / 8]))));
            contenders
        }));
    }
    rows
}

/// All that happens to the values of a call, and no other process.
fn call<F: ProcessFn>(call: Call<F>) -> io::Result<Run> {
    let run = move || call.encode().map_err(failed)?.run().decode::<F::Output>().map_err(failed);
    batches(|| (), move |()| run())
}

/// Both ways for one value. All values are shorter than what a message keeps in a memory file.
fn of<T: Serialize + DeserializeOwned + Clone + 'static>(name: &str, value: T) -> [Row; 2] {
    let decoded = value.clone();
    let goal = (name != "small").then_some(1.1);
    [
        row(&format!("codec/encode/{name}"), move |_| {
            vec![
                Contender::ours("Message", encode(&value, |value| Message::encode(value))),
                Contender::limit("bincode", goal, encode(&value, |value| bincode::serde::encode_to_vec(value, FIXED))),
                peer("postcard", encode(&value, |value| postcard::to_allocvec(value))),
                peer("bincode, varint", encode(&value, |value| bincode::serde::encode_to_vec(value, VARIABLE))),
            ]
        }),
        row(&format!("codec/decode/{name}"), move |_| {
            let value = &decoded;
            vec![
                Contender::ours(
                    "Message",
                    decode(value, |value| Message::encode(value), |message| message.decode::<T>()),
                ),
                Contender::limit(
                    "bincode",
                    goal,
                    decode(
                        value,
                        |value| bincode::serde::encode_to_vec(value, FIXED),
                        |bytes| bincode::serde::decode_from_slice::<T, _>(&bytes, FIXED),
                    ),
                ),
                peer(
                    "postcard",
                    decode(value, |value| postcard::to_allocvec(value), |bytes| postcard::from_bytes::<T>(&bytes)),
                ),
                peer(
                    "bincode, varint",
                    decode(
                        value,
                        |value| bincode::serde::encode_to_vec(value, VARIABLE),
                        |bytes| bincode::serde::decode_from_slice::<T, _>(&bytes, VARIABLE),
                    ),
                ),
            ]
        }),
    ]
}

/// That of mp-core.
const FIXED: config::Configuration<config::LittleEndian, config::Fixint> = config::standard().with_fixed_int_encoding();
const VARIABLE: config::Configuration = config::standard();

fn peer(name: &str, run: io::Result<Run>) -> Contender {
    Contender::new(Role::Peer, name, run)
}

fn encode<T: Clone + 'static, R: 'static, E: fmt::Debug>(
    value: &T,
    encode: impl Fn(&T) -> Result<R, E> + 'static,
) -> io::Result<Run> {
    let value = value.clone();
    batches(move || (), move |()| encode(black_box(&value)))
}

fn decode<T: Clone + 'static, M: 'static, R: 'static, E: fmt::Debug, F: fmt::Debug>(
    value: &T,
    encode: impl Fn(&T) -> Result<M, E> + 'static,
    decode: impl Fn(M) -> Result<R, F> + 'static,
) -> io::Result<Run> {
    let value = value.clone();
    batches(move || encode(&value).expect("it was encoded before"), decode)
}

/// Turns of which only `run` counts: what it needs is made before, and what it makes is dropped
/// afterwards.
fn batches<M: 'static, R: 'static, E: fmt::Debug>(
    make: impl Fn() -> M + 'static,
    run: impl Fn(M) -> Result<R, E> + 'static,
) -> io::Result<Run> {
    Ok(Box::new(move |operations| {
        let mut taken = Duration::ZERO;
        let mut left = operations;
        while left > 0 {
            let batch = left.min(BATCH);
            let made: Vec<M> = (0..batch).map(|_| make()).collect();
            let mut results = Vec::with_capacity(batch as usize);
            let start = Instant::now();
            for made in made {
                results.push(run(made));
            }
            taken += start.elapsed();
            if results.iter().any(Result::is_err) {
                return Err(io::Error::other("a value did not come back"));
            }
            left -= batch;
        }
        Ok(taken)
    }))
}
