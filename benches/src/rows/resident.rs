//! Starting processes from a process with much memory, and from one without.
//!
//! Both are children of this process that start processes of their own when they are told to, so
//! they can take turns.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use mp_core::{Connection, duplex, process_fn};

use super::{row, spawn};
use crate::measure::{Contender, Row, Run, Scale};
use crate::partner::{Partner, failed};

pub(super) fn rows() -> Vec<Row> {
    vec![row("spawn/resident", contenders)]
}

/// As much as the goal names, if the machine can spare it.
fn much(scale: Scale) -> u64 {
    let most: u64 = if scale.quick { 256 << 20 } else { 8 << 30 };
    most.min(available() / 2)
}

/// What can be used without swapping, in bytes.
pub(super) fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn contenders(scale: Scale) -> Vec<Contender> {
    let bytes = much(scale);
    vec![
        Contender::ours("with it", from_a_process_with(bytes)),
        Contender::limit(&format!("without {} MiB of memory in use", bytes >> 20), 1.1, from_a_process_with(0)),
    ]
}

#[process_fn]
fn starter(orders: Connection<u64, u32>, bytes: u64) {
    // Not zeros, which the kernel would not have to keep.
    let memory = vec![1u8; usize::try_from(bytes).unwrap_or(0)];
    while let Ok(operations) = orders.recv() {
        let start = Instant::now();
        for _ in 0..operations {
            if spawn::ours().is_err() {
                return;
            }
        }
        let taken = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if orders.send(taken).is_err() {
            return;
        }
    }
    black_box(&memory);
}

fn from_a_process_with(bytes: u64) -> io::Result<Run> {
    let (ours, theirs) = duplex::<u32, u64>()?;
    let mut starter = Partner::new(ours, starter::spawn(theirs, bytes))?;
    Ok(Box::new(move |operations| {
        let orders = starter.channels()?;
        orders.send(operations).map_err(failed)?;
        Ok(Duration::from_nanos(orders.recv().map_err(failed)?))
    }))
}
