//! An attribute that comes after the derive can change what the derive has seen.

#![allow(unused)]

use attribute_macros::of_parts;
use mp_shm::ShmSafe;

#[derive(ShmSafe)]
#[of_parts(a: u8, b: Vec<u8>)]
struct Added {
    a: u8,
}

#[derive(ShmSafe)]
#[of_parts(Box<u8>)]
struct Changed(u8);

#[derive(ShmSafe)]
#[of_parts(A(u8), B(Vec<u8>))]
enum AddedVariant {
    A(u8),
}

#[derive(ShmSafe)]
#[of_parts(A { a: Box<u8> }, B)]
enum ChangedVariant {
    A { a: u8 },
    B,
}

fn main() {}
