#![deny(unused_must_use)]

use mp_core::process_fn;

#[process_fn]
fn add(a: u8, b: u8) -> u8 {
    a + b
}

fn main() {
    // Told once, not twice.
    add::call(1, 2);
}
