#![allow(unused)]

use mp_core::process_fn;

struct Plain;

#[process_fn]
fn one(a: Plain) {}

fn main() {}
