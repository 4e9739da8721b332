#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
unsafe extern "C" fn variadic(a: u8, _: ...) {}

fn main() {}
