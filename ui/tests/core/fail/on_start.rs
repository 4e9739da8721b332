#![allow(unused)]

use mp_core::on_start;

#[on_start]
fn parameters(a: u8) {}

#[on_start]
fn returns() -> Result<(), String> {
    Ok(())
}

#[on_start]
fn generic<T>() {}

#[on_start]
async fn later() {}

#[on_start]
unsafe fn dangerous() {}

#[on_start(name = "a")]
fn named() {}

#[on_start]
struct NoFunction;

fn main() {}
