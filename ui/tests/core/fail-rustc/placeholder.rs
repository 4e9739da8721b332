#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
fn placeholder(a: Vec<_>) -> _ {
    1
}

fn main() {}
