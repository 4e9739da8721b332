#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
fn of_a_type<T>(a: T) -> T {
    a
}

#[process_fn]
fn of_a_constant<const N: usize>(a: [u8; N]) {}

#[process_fn]
fn of_a_lifetime<'a>(a: std::borrow::Cow<'a, str>) {}

#[process_fn]
fn of_everything<'a, T: Clone, const N: usize>(a: [T; N]) where T: 'a {}

#[process_fn]
fn where_clause(a: u8) where u8: Copy {}

fn main() {}
