//! What knows the threads of one process only.

#![allow(unused)]

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::LazyLock;
use std::sync::atomic::AtomicPtr;

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Cells(Cell<u8>, RefCell<u8>, std::cell::UnsafeCell<u8>, OnceCell<u8>, LazyLock<u8>, AtomicPtr<u8>);

#[derive(ShmSafe)]
struct Locks {
    a: std::sync::Mutex<u8>,
    b: std::sync::RwLock<[u8; 2]>,
    c: std::sync::Condvar,
    d: std::sync::Barrier,
    e: ::std::sync::OnceLock<u8>,
    f: std::sync::Once,
}

fn main() {}
