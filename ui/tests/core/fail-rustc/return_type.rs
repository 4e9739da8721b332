#![allow(unused)]

use mp_core::process_fn;

struct Plain;

#[process_fn]
fn returns() -> Result<Plain, String> {
    Ok(Plain)
}

fn main() {}
