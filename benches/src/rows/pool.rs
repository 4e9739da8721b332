//! Tasks in a pool of two workers.

use std::cell::RefCell;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mp_core::{ForkServer, StartMethod, active_children, process_fn};
use mp_pool::Pool;

use super::{pinned, row};
use crate::measure::{Contender, Row, Run};
use crate::partner::failed;

const WORKERS: usize = 2;

/// How many items one map has.
pub(crate) const ITEMS: u64 = 1_000_000;

pub(super) fn rows() -> Vec<Row> {
    let single = |row: Row| Row { operations: Some(1), ..row };
    vec![
        single(row("pool/map", |_| map())),
        single(pinned("pool/map", |_| map())),
        single(row("pool/imap-unordered", |_| imap())),
        row("pool/submit-join", |_| submit()),
        pinned("pool/submit-join", |_| submit()),
        single(row("pool/tasks-of-100us", |_| busy(Duration::from_micros(100), 2_000))),
        single(row("pool/tasks-of-10ms", |_| busy(Duration::from_millis(10), 40))),
        single(row("pool/skewed/shuffled", |_| skewed(shuffled()))),
        single(row("pool/skewed/long-ones-last", |_| skewed(long_ones_last()))),
        row("pool/mebibyte", |_| mebibyte()),
        single(row("pool/ten-million", |_| ten_million())),
        single(row("pool/start-64", |_| start_64())),
        single(row("pool/start-64-warm", |_| start_64_warm())),
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
    let mut contenders = vec![
        Contender::ours("Pool::submit, Task::join", ours),
        Contender::limit("two rings, there and back", 2.0, super::queue::ring::exchanges()),
    ];
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
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("Pool::map", ours),
        Contender::limit("two threads, half of them each", if length < SHORT { 1.03 } else { 1.01 }, Ok(limit)),
    ];
    #[cfg(feature = "peers")]
    contenders.push(crate::peers::pool::rayon(vec![length; count], compute));
    contenders
}

/// Of shorter tasks, the goal leaves more for what the pool does.
const SHORT: Duration = Duration::from_millis(1);

/// How long each of a thousand tasks takes: one in fifty a hundred times as long as the others, in
/// an order that is always the same.
fn shuffled() -> Vec<Duration> {
    // Both numbers are prime, so that each place is hit once.
    (0_u64..1_000).map(|index| skewed_length(index * 7_919 % 1_000 % 50 == 0)).collect()
}

/// The same with all the long ones at the end, where they cannot be made up for.
fn long_ones_last() -> Vec<Duration> {
    (0..1_000).map(|index| skewed_length(index >= 980)).collect()
}

fn skewed_length(is_long: bool) -> Duration {
    Duration::from_micros(if is_long { 10_000 } else { 100 })
}

/// Tasks of these lengths, as fast as two processors can.
fn skewed(lengths: Vec<Duration>) -> Vec<Contender> {
    let items = lengths.clone();
    let ours = with_pool(move |pool| pool.map::<compute>(items.iter().copied()).map(drop).map_err(failed));
    let items = lengths.clone();
    // The least that there is to do: each thread takes the next one when it has done one.
    let limit: Run = Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            let next = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..WORKERS {
                    scope.spawn(|| {
                        while let Some(length) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                            compute(*length);
                        }
                    });
                }
            });
        }
        Ok(start.elapsed())
    });
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders =
        vec![Contender::ours("Pool::map", ours), Contender::limit("two threads, one counter", 1.05, Ok(limit))];
    #[cfg(feature = "peers")]
    contenders.push(crate::peers::pool::rayon(lengths, compute));
    contenders
}

/// Ten million numbers, of which no more than a window is in memory at once.
fn ten_million() -> Vec<Contender> {
    const COUNT: u64 = 10_000_000;
    /// How much more memory it may take than one round before it, in KiB.
    const MOST: u64 = 16 << 10;
    let sum = |pool: &Pool, count| {
        let mut values = pool.imap_unordered::<nothing>(0..count);
        values.try_fold(0, |sum: u64, (_, value)| Ok(sum + value.map_err(failed)?)).and_then(|sum| {
            if sum == count * (count - 1) / 2 { Ok(()) } else { Err(failed(format!("the sum is {sum}"))) }
        })
    };
    let ours = with_pool(move |pool| {
        sum(pool, COUNT / 10)?;
        let before = most_resident()?;
        sum(pool, COUNT)?;
        let grown = most_resident()?.saturating_sub(before);
        eprintln!("    ten million items: {before} KiB of memory at most before, {grown} KiB more after");
        if grown <= MOST { Ok(()) } else { Err(failed(format!("it has grown by {grown} KiB"))) }
    });
    let limit = with_pool(move |pool| (0..11).try_for_each(|_| sum(pool, COUNT / 10)));
    vec![
        Contender::ours("Pool::imap_unordered, eleven million in all", ours),
        Contender::limit("a million, eleven times", 1.1, limit),
    ]
}

/// The most memory that this process has had, in KiB.
fn most_resident() -> io::Result<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status")?, "VmHWM:")
}

/// The value of a line of a file in `/proc`.
fn kibibytes(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).ok_or_else(|| failed("it is not told"))
}

const MANY: usize = 64;

/// A pool of 64 workers, after the first value of each.
fn many(method: &StartMethod) -> io::Result<Pool> {
    let pool = Pool::builder().workers(MANY).name("many").start_method(method.clone()).build().map_err(failed)?;
    pool.map::<nothing>(0..MANY as u64).map_err(failed)?;
    Ok(pool)
}

/// Such a pool from its beginning to its end.
fn start(method: StartMethod) -> Run {
    Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            drop(many(&method)?);
        }
        Ok(start.elapsed())
    })
}

/// The workers of a fork server beside spawned ones, in time and in memory, which it prints.
fn start_64_warm() -> Vec<Contender> {
    let measured = |how, server: io::Result<StartMethod>| {
        let method = server?;
        eprintln!("    64 workers {how} that wait: {} KiB of memory", memory_of_many(&method)?);
        Ok(start(method))
    };
    let server = ForkServer::builder().build().map(StartMethod::ForkServer).map_err(failed);
    vec![
        Contender::ours("a pool of 64 from a fork server", measured("from a fork server", server)),
        Contender::limit("a pool of 64 that are spawned", None, measured("that were spawned", Ok(StartMethod::Spawn))),
    ]
}

/// The proportional memory of 64 workers that wait, in KiB: of what processes share, each has a
/// part.
fn memory_of_many(method: &StartMethod) -> io::Result<u64> {
    let pool = many(method)?;
    let workers = active_children().into_iter().filter(|child| child.name().starts_with("many"));
    let memory = workers.map(|worker| {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", worker.pid()))?;
        kibibytes(&text, "Pss:")
    });
    let sum = memory.sum();
    drop(pool);
    sum
}

fn start_64() -> Vec<Contender> {
    let ours = start(StartMethod::Spawn);
    let limit: Run = Box::new(|operations| {
        let start = Instant::now();
        for _ in 0..operations {
            let children: Result<Vec<_>, _> = (0..MANY as u64).map(nothing::spawn).collect();
            for child in children.map_err(failed)? {
                child.join().map_err(failed)?;
            }
        }
        Ok(start.elapsed())
    });
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("a pool of 64, a map, its end", Ok(ours)),
        Contender::limit("64 processes, spawned and joined", 1.5, Ok(limit)),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::pool::start(MANY));
    contenders
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
    // There and back. An allocator may give out the same memory again; a mapping is always new.
    let copies = |target: fn(&[u8]) -> io::Result<()>| -> io::Result<Run> {
        let bytes = bytes.clone();
        Ok(Box::new(move |operations| {
            let start = Instant::now();
            (0..2 * operations).try_for_each(|_| target(&bytes))?;
            Ok(start.elapsed())
        }))
    };
    let fresh = copies(|bytes| {
        let mut target = memmap2::MmapMut::map_anon(bytes.len())?;
        target.copy_from_slice(black_box(bytes));
        black_box(target);
        Ok(())
    });
    let in_use = copies(|bytes| {
        thread_local!(static TARGET: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        TARGET.with_borrow_mut(|target| {
            target.clear();
            target.extend_from_slice(black_box(bytes));
            black_box(target);
        });
        Ok(())
    });
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("Pool::submit, Task::join, 1 MiB", ours),
        Contender::limit("two copies into fresh memory", 2.0, fresh),
        Contender::limit("two copies into memory in use", None, in_use),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::pool::mebibyte());
    contenders
}
