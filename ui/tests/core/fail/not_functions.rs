#![allow(unused)]

use mp_core::process_fn;

#[process_fn]
struct Unit;

#[process_fn]
pub enum Choice {
    A,
}

#[process_fn]
impl Unit {}

#[process_fn]
const ANSWER: u8 = 42;

#[process_fn]
pub static GREETING: &str = "hello";

#[process_fn]
unsafe trait Trait {}

#[process_fn]
unsafe extern "C" {}

#[process_fn]
mod module {}

#[process_fn]
type Alias = u8;

#[process_fn]
use std::fmt;

trait Declares {
    #[process_fn]
    fn declared(a: u8);
}

fn main() {}
