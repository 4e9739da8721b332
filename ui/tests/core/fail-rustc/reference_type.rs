//! What is borrowed has to be something that can travel, and that somebody can own.

#![allow(unused)]

use mp_core::process_fn;

struct Plain;

struct Unsized([u8]);

#[process_fn]
fn one(a: &Plain) {}

#[process_fn]
fn several(a: u8, b: &str, c: &[Plain], d: &Unsized) {}

fn main() {}
