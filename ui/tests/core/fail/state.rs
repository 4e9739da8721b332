#![allow(unused)]

use mp_core::process_fn;

#[process_fn(state = absent)]
fn no_such_parameter(number: u32) {}

#[process_fn(state = counts)]
fn by_value(counts: Vec<u64>) {}

#[process_fn(state = counts)]
fn shared(counts: &Vec<u64>) {}

#[process_fn(state)]
fn unnamed(counts: &mut Vec<u64>) {}

#[process_fn(state = "counts")]
fn text(counts: &mut Vec<u64>) {}

#[process_fn(state = counts)]
fn two(counts: &mut Vec<u64>, others: &mut Vec<u64>) {}

fn main() {}
