//! Measures what `futures.py` measures of mpi4py.futures, in tasks a second, on the same workers.
//!
//! `mpirun -n 3 --oversubscribe ./target/release/examples/rates`, and the same with
//! `python futures.py`. The best of three rounds counts.

use std::error::Error;
use std::time::{Duration, Instant};

use mp_core::process_fn;
use mp_mpi::Pool;

#[process_fn]
fn noop(number: u64) -> u64 {
    number
}

#[process_fn]
fn sleep10(number: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(10));
    number
}

#[process_fn]
fn size(bytes: Vec<u8>) -> usize {
    bytes.len()
}

fn rate(name: &str, count: usize, run: impl Fn() -> usize) {
    let round = || {
        let start = Instant::now();
        assert_eq!(run(), count);
        count as f64 / start.elapsed().as_secs_f64()
    };
    let best = (0..3).map(|_| round()).fold(0.0, f64::max);
    println!("{name} {best:.1}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder().leader_works(false).workers_per_rank(1).build()?;
    pool.map::<noop>(0..100)?;
    rate("noop", 1_000_000, || pool.imap_unordered::<noop>(0..1_000_000).filter(|(_, value)| value.is_ok()).count());
    let bytes = vec![0_u8; 1 << 20];
    rate("mebibyte", 300, || {
        let items = (0..300).map(|_| bytes.clone());
        pool.imap_unordered::<size>(items).filter(|(_, value)| value.is_ok()).count()
    });
    let count = 100 * pool.workers();
    rate("sleep10", count, || {
        pool.imap_unordered::<sleep10>(0..count as u64).filter(|(_, value)| value.is_ok()).count()
    });
    let one = Instant::now();
    for number in 0..200 {
        pool.submit(noop::call(number)).join()?;
    }
    println!("round trip {:.1} µs", one.elapsed().as_secs_f64() * 1e6 / 200.0);
    if let Some(seconds) = std::env::args().nth(1) {
        // Time to look at how much processor the ranks take.
        println!("idle");
        std::thread::sleep(Duration::from_secs(seconds.parse()?));
    }
    println!("workers {}", pool.workers());
    pool.finish()?;
    Ok(())
}
