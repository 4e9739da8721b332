#![allow(unused)]

use std::borrow::Cow;
use std::path::Path;

use mp_core::process_fn;

struct View<'a>(&'a str);

#[process_fn]
fn static_text(a: &'static str, b: &'static [u8]) {}

#[process_fn]
fn named<'a>(a: &'a str, b: &'a Path) {}

#[process_fn]
fn of_a_reference(a: &&str, b: &&'static &u8) {}

#[process_fn]
fn changed(a: &mut Vec<u8>, b: &'static mut str) {}

#[process_fn]
fn nested(a: Option<&str>, b: Vec<(u8, &[u8])>, c: [&u8; 2], d: (&mut Path, u8)) {}

#[process_fn]
fn nested_in_a_reference(a: &[&str], b: &Option<&Path>, c: &(u8, &[u8])) {}

#[process_fn]
fn elided(a: Cow<'_, str>, b: View<'_>, c: &View<'_>) {}

#[process_fn]
fn object(a: &dyn Send, b: Box<dyn Send + '_>, c: &(dyn Send + Sync)) {}

#[process_fn]
fn pointers(a: &*const u8, b: &fn()) {}

#[process_fn]
fn returned() -> &'static str {
    "a"
}

#[process_fn]
fn lent_and_returned(a: &str) -> &str {
    a
}

#[process_fn]
async fn lent_and_returned_later(a: &str) -> Option<&str> {
    Some(a)
}

#[process_fn]
fn nested_in_the_return_type() -> Result<&'static [u8], Cow<'static, &'static str>> {
    Ok(&[])
}

#[process_fn]
fn changed_return() -> Option<&'static mut u8> {
    None
}

fn main() {}
