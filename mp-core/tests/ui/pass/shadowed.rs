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

struct Referent;
struct Borrowing;
struct Lent;
struct Received;
struct Message;
struct Arguments;
fn block_on() {}

#[mp_core::process_fn]
async fn borrows(a: &[u64], b: &::core::primitive::u8) -> u64 {
    a[0] + u64::from(*b)
}

/// Not the `u8` of whose slices the bytes are sent at once.
mod other_bytes {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct u8(pub(crate) ::core::primitive::u16);

    #[mp_core::process_fn]
    pub(crate) fn sum(bytes: &[u8]) -> ::core::primitive::u16 {
        bytes.iter().map(|byte| byte.0).sum()
    }
}

#[test]
fn it_works() {
    assert_eq!(add::call(1, 2).run(), 3);
    nothing::call().run();
    assert_eq!(borrows::call(&[1], &2).run(), 3);
    let sum = other_bytes::sum::call(&[other_bytes::u8(1000), other_bytes::u8(1)]).encode().unwrap().run();
    assert_eq!(sum.decode::<u16>().unwrap(), 1001);
    let _ = add::spawn;
}
