#![allow(unused)]

use mp_core::process_fn;

struct Plain;

#[derive(serde::Serialize)]
struct Half;

#[process_fn]
fn several(a: u8, b: Vec<Plain>, c: Half) {}

fn main() {}
