#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct References {
    a: &'static u8,
    b: &'static mut u64,
    c: &'static [u16],
    d: &'static str,
    e: &'static dyn Send,
    f: &'static std::path::Path,
}

#[derive(ShmSafe)]
struct Raw(*const u8, *mut String, std::ptr::NonNull<u8>);

#[derive(ShmSafe)]
enum Functions {
    A(fn(u8) -> u8),
    B { call: extern "C" fn(&str) },
}

fn main() {}
