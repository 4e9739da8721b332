//! What newcomers write first: one message each, which says what to write instead.
#![allow(unused)]

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use mp_core::{Fd, process_fn};

#[process_fn]
fn reads() -> io::Result<String> {
    Ok(String::new())
}

#[process_fn]
fn reads_too() -> Result<String, std::io::Error> {
    Ok(String::new())
}

#[process_fn]
fn fails() -> Result<(), Box<dyn Error + Send>> {
    Ok(())
}

#[process_fn]
fn takes_files(file: Vec<fs::File>, socket: std::net::TcpStream) {}

#[process_fn]
fn counts(count: Arc<Mutex<u64>>, other: Arc<AtomicU64>) {}

#[process_fn]
fn takes_a_closure(work: Box<dyn Fn(u64) -> u64>) {}

// These are as they should be.
#[process_fn]
fn good(file: Fd<fs::File>, socket: Option<Fd<net::TcpStream>>) -> Result<u64, String> {
    Ok(1)
}

fn main() {}
