#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
async fn waits() {}

#[process_fn]
unsafe fn trusts() {}

#[process_fn]
extern "C" fn foreign() {}

#[process_fn]
pub const unsafe extern "C" fn all() {}

fn main() {}
