#![allow(unused)]

use mp_core::process_fn;

struct NoDefault;

#[process_fn(state = state)]
fn without_default(state: &mut NoDefault) {}

fn main() {}
