//! What the output uses is not what the user's names say.

#![allow(non_camel_case_types, dead_code, non_upper_case_globals, unused_macros)]

struct Result;
struct Option;
struct Ok;
struct Process;
struct Builder;
struct Call;
struct SpawnError;
struct Registration;
struct Args;
struct str;
struct u32;
const args: u8 = 0;
static REGISTRATION: u8 = 0;

mod core {}
mod std {}
mod linkme {}
mod __private {}

trait ProcessFn {
    const NAME: u8 = 0;
    fn spawn(&self) {}
    fn call(&self) {}
    fn invoke(&self) {}
    fn new() {}
}
impl<T> ProcessFn for T {}

macro_rules! concat {
    ($($tokens:tt)*) => {
        compile_error!("the user's macro")
    };
}
macro_rules! module_path {
    () => {
        compile_error!("the user's macro")
    };
}
macro_rules! line {
    () => {
        compile_error!("the user's macro")
    };
}

#[mp_core::process_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[mp_core::process_fn]
fn nothing() {}

fn main() {
    assert_eq!(add::call(1, 2).run(), 3);
    nothing::call().run();
    let _ = add::spawn;
}
