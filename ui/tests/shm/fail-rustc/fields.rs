//! Fields of types whose spelling tells nothing.

#![allow(unused)]

use std::cell::Cell as Word;
use std::sync::Mutex;

use mp_shm::ShmSafe;

struct NotDerived(u8);

type Text = String;

#[derive(ShmSafe)]
struct Fields {
    one: NotDerived,
    text: Text,
    lock: Mutex<u8>,
    inside: Option<(Word<u8>, u8)>,
}

#[derive(ShmSafe)]
enum Variants {
    A(u8, std::fs::File),
    B { length: [std::time::Instant; 3] },
}

#[derive(ShmSafe)]
struct Associated<T: Iterator>(T::Item);

fn main() {}
