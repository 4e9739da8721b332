//! Even the strictest crate may use the attribute.

#![forbid(unsafe_code)]

use mp_core::process_fn;

#[process_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[test]
fn it_works() {
    assert_eq!(add::call(1, 2).run(), 3);
}
