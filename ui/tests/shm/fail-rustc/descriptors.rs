//! A program could write to the descriptor as to a file, and so make values that do not exist.
#![allow(unused)]

use std::os::fd::{AsFd, OwnedFd};

use mp_shm::{Array, Shared, Value};
use mp_sync::Mutex;

fn lend(value: &Value<bool>, array: &Array<char>, shared: &Shared<Mutex<bool>>) {
    value.as_fd();
    array.as_fd();
    shared.as_fd();
}

fn attach(descriptor: OwnedFd) {
    Shared::<Mutex<bool>>::try_from(descriptor);
}

fn main() {}
