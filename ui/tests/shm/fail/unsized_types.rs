#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Tail {
    length: u64,
    elements: [u8],
}

#[derive(ShmSafe)]
struct Text(str);

#[derive(ShmSafe)]
struct Object(dyn Send);

fn main() {}
