//! Inside what holds its value where it is.

#![allow(unused)]

use mp_shm::ShmSafe;
use mp_sync::{Mutex, OnceLock, RwLock};

#[derive(ShmSafe)]
struct Nested {
    a: Option<Vec<u8>>,
    b: (u8, &'static str),
    c: [Box<u8>; 3],
    d: Mutex<String>,
    e: mp_sync::ReentrantMutex<(Option<*const u8>, u8)>,
    f: RwLock<Option<[Option<fn()>; 2]>, 4>,
    g: (OnceLock<Vec<Vec<u8>>>),
    h: std::option::Option<std::sync::Mutex<String>>,
}

fn main() {}
