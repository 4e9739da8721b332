#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
unsafe fn trusts() {}

#[process_fn]
extern "C" fn foreign() {}

#[process_fn]
pub const unsafe extern "C" fn all() {}

#[process_fn]
async unsafe fn waits_and_trusts() {}

fn main() {}
