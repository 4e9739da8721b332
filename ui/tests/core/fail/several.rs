//! All errors are told at once, and the function stays usable.

#![allow(unused)]

use mp_core::process_fn;

#[process_fn(nmae = "a", name = "")]
unsafe fn everything<T>(a: &mut str, b: Option<&[u8]>, #[cfg(unix)] c: T) -> *const u8 {
    std::ptr::null()
}

#[process_fn]
fn used(a: &'static str) -> usize {
    a.len()
}

fn main() {
    let _ = used("a");
}
