#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
fn parameter(a: impl Clone) {}

#[process_fn]
fn nested(a: Vec<impl Clone>) {}

#[process_fn]
fn borrowed(a: &impl Clone) {}

#[process_fn]
fn returned() -> impl Clone {
    1
}

#[process_fn]
fn nested_in_the_return_type() -> Option<impl Clone> {
    Some(1)
}

fn main() {}
