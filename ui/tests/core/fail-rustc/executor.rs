//! An executor takes a future and returns its output.

#![allow(unused)]

use std::future::Future;

use mp_core::process_fn;

fn forgets<F: Future>(future: F) {}

fn takes_none() -> u8 {
    1
}

fn sends<F: Future + Send>(future: F) -> F::Output {
    pollster::block_on(future)
}

#[process_fn(executor = forgets)]
async fn forgotten() -> u8 {
    1
}

#[process_fn(executor = takes_none)]
async fn not_taken() -> u8 {
    1
}

#[process_fn(executor = absent)]
async fn not_there() -> u8 {
    1
}

#[process_fn(executor = sends)]
async fn not_send(a: &std::cell::Cell<u8>) -> u8 {
    std::future::ready(()).await;
    a.get()
}

fn main() {}
