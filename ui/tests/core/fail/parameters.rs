#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
fn thirteen(
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    e: u8,
    f: u8,
    g: u8,
    h: u8,
    i: u8,
    j: u8,
    k: u8,
    l: u8,
    m: u8,
) {
}

#[process_fn]
fn conditional(#[cfg(unix)] a: u8, #[cfg_attr(unix, allow(unused))] b: u8) {}

fn main() {}
