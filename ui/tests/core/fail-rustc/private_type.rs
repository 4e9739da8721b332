//! A public function takes a private type, of which rustc only warns when the function is ordinary.

#![allow(unused)]

use mp_core::process_fn;

#[derive(serde::Serialize, serde::Deserialize)]
struct Private;

#[process_fn]
pub fn takes(a: Private) {}

fn main() {}
