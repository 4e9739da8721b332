#![allow(unused)]

use std::borrow::Cow;
use std::path::Path;

use mp_core::process_fn;

struct View<'a>(&'a str);

#[process_fn]
fn text(a: &str) {}

#[process_fn]
fn static_text(a: &'static str) {}

#[process_fn]
fn slice(a: &[u64]) {}

#[process_fn]
fn slices(a: &[std::path::PathBuf], b: &[&str]) {}

#[process_fn]
fn path(a: &Path, b: &std::ffi::OsStr) {}

#[process_fn]
fn value(a: &Vec<u8>) {}

#[process_fn]
fn of_a_reference(a: &&str) {}

#[process_fn]
fn changed(a: &mut Vec<u8>) {}

#[process_fn]
fn nested(a: Option<&str>, b: Vec<(u8, &[u8])>, c: [&u8; 2]) {}

#[process_fn]
fn elided(a: Cow<'_, str>, b: View<'_>) {}

#[process_fn]
fn object(a: &dyn Send, b: Box<dyn Send + '_>) {}

#[process_fn]
fn returned() -> &'static str {
    "a"
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
