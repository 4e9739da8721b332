#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
fn raw(a: *const u8, b: *mut String, c: Option<*const std::ffi::CStr>) {}

#[process_fn]
fn functions(a: fn(u8) -> u8, b: Vec<extern "C" fn(&str)>) {}

#[process_fn]
fn returned() -> *const u8 {
    std::ptr::null()
}

#[process_fn]
fn returned_function() -> fn() {
    || ()
}

fn main() {}
