//! Tasks in a pool of two workers.

use std::io;
use std::time::{Duration, Instant};

use mp_core::process_fn;
use mp_pool::Pool;

use super::{pinned, row};
use crate::measure::{Contender, Row, Run};
use crate::partner::failed;

const WORKERS: usize = 2;

/// How many items one map has.
pub(crate) const ITEMS: u64 = 1_000_000;

pub(super) fn rows() -> Vec<Row> {
    let single = |row: Row| Row { single: true, ..row };
    vec![
        single(row("pool/map", |_| map())),
        single(pinned("pool/map", |_| map())),
        single(row("pool/imap-unordered", |_| imap())),
        row("pool/submit-join", |_| submit()),
        single(row("pool/tasks-of-100us", |_| busy(Duration::from_micros(100), 2_000))),
        single(row("pool/tasks-of-10ms", |_| busy(Duration::from_millis(10), 40))),
        row("pool/mebibyte", |_| mebibyte()),
    ]
}

#[process_fn]
fn nothing(number: u64) -> u64 {
    number
}

/// Computes for so long.
#[process_fn]
fn compute(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[process_fn]
fn give_back(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Times what is done with a pool, once for each operation.
fn with_pool(mut operation: impl FnMut(&Pool) -> io::Result<()> + 'static) -> io::Result<Run> {
    let pool = Pool::new(WORKERS).map_err(failed)?;
    Ok(Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            operation(&pool)?;
        }
        Ok(start.elapsed())
    }))
}

fn map() -> Vec<Contender> {
    let ours = with_pool(|pool| match pool.map::<nothing>(0..ITEMS) {
        Ok(values) if values.len() as u64 == ITEMS => Ok(()),
        Ok(values) => Err(failed(format!("{} values", values.len()))),
        Err(error) => Err(failed(error)),
    });
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![Contender::ours("Pool::map, a million numbers", ours)];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::pool::map(ITEMS));
    contenders
}

fn imap() -> Vec<Contender> {
    let ours = with_pool(|pool| {
        let values = pool.imap_unordered::<nothing>(0..ITEMS);
        let count =
            values.map(|(_, value)| value.map_err(failed)).try_fold(0, |count, value| value.map(|_| count + 1))?;
        if count == ITEMS { Ok(()) } else { Err(failed(format!("{count} values"))) }
    });
    let limit = with_pool(|pool| pool.map::<nothing>(0..ITEMS).map(drop).map_err(failed));
    vec![Contender::ours("Pool::imap_unordered, a million numbers", ours), Contender::limit("Pool::map", 2.0, limit)]
}

fn submit() -> Vec<Contender> {
    let ours = with_pool(|pool| pool.submit(nothing::call(7)).join().map(drop).map_err(failed));
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![Contender::ours("Pool::submit, Task::join", ours)];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::pool::submit());
    contenders
}

/// So many tasks of the same length, as fast as two processors can.
fn busy(length: Duration, count: usize) -> Vec<Contender> {
    let ours = with_pool(move |pool| {
        let items = std::iter::repeat_n(length, count);
        pool.map::<compute>(items).map(drop).map_err(failed)
    });
    // No scheduling at all: each thread does its half.
    let limit: Run = Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            std::thread::scope(|scope| {
                for _ in 0..WORKERS {
                    scope.spawn(|| (0..count / WORKERS).for_each(|_| compute(length)));
                }
            });
        }
        Ok(start.elapsed())
    });
    vec![Contender::ours("Pool::map", ours), Contender::limit("two threads, half of them each", 1.05, Ok(limit))]
}

/// A mebibyte to a worker and back.
fn mebibyte() -> Vec<Contender> {
    const LENGTH: usize = 1 << 20;
    let bytes = vec![7; LENGTH];
    let ours = with_pool(move |pool| match pool.submit(give_back::call(bytes.clone())).join() {
        Ok(back) if back.len() == LENGTH => Ok(()),
        Ok(_) => Err(failed("it is another one")),
        Err(error) => Err(failed(error)),
    });
    let bytes = vec![7_u8; LENGTH];
    let limit: Run = Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            // There and back.
            std::hint::black_box(std::hint::black_box(bytes.clone()).clone());
        }
        Ok(start.elapsed())
    });
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("Pool::submit, Task::join, 1 MiB", ours),
        Contender::limit("two copies into fresh memory", 2.0, Ok(limit)),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::pool::mebibyte());
    contenders
}
