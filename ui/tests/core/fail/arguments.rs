#![allow(unused)]

use mp_core::process_fn;

#[process_fn(nmae = "a")]
fn unknown() {}

#[process_fn(unknown, name = "a")]
fn unknown_word() {}

#[process_fn("a")]
fn literal() {}

#[process_fn(name = "a", name = "b")]
fn duplicate() {}

#[process_fn(crate = mp_core, crate = ::mp_core)]
fn duplicate_crate() {}

#[process_fn(name)]
fn name_alone() {}

#[process_fn(name = )]
fn name_without_value() {}

#[process_fn(name = 1)]
fn name_of_a_number() {}

#[process_fn(name = concat!("a", "b"))]
fn name_of_a_macro() {}

#[process_fn(name("a"))]
fn name_in_parentheses() {}

#[process_fn(name = "")]
fn empty_name() {}

#[process_fn(crate)]
fn crate_alone() {}

#[process_fn(crate = "mp_core")]
fn crate_of_a_string() {}

#[process_fn(crate = mp_core<u8>)]
fn crate_with_arguments() {}

#[process_fn(executor = mp_core, executor = ::mp_core)]
async fn duplicate_executor() {}

#[process_fn(executor)]
async fn executor_alone() {}

#[process_fn(executor = "tokio")]
async fn executor_of_a_string() {}

#[process_fn(executor = |future| future)]
async fn executor_of_a_closure() {}

#[process_fn(executor = mp_core)]
fn executor_without_a_future() {}

#[process_fn(name = "a" crate = mp_core)]
fn no_comma() {}

#[process_fn(, name = "a")]
fn comma_first() {}

fn main() {}
