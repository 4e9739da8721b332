#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
#[mp_core::process_fn(name = "a")]
fn twice() {}

fn main() {}
