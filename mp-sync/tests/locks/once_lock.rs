//! A value that one of several processes makes, while they die.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::memory::InShared;
use mp_core::{Builder, Sender, pipe, process_fn};
use mp_sync::OnceLock;
use mp_testing::faults::{count, limit};
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, scenario};

/// In order, all are equal.
type Value = [u64; 8];
type Once = OnceLock<Value>;

fn for_ever() -> ! {
    loop {
        thread::park();
    }
}

#[process_fn]
fn init_for_ever(memory: InShared<Once>, there: Sender<()>) {
    memory.get_or_init(|| {
        there.send(()).unwrap();
        for_ever()
    });
}

#[process_fn]
fn wait_for_ever(memory: InShared<Once>, there: Sender<()>) {
    there.send(()).unwrap();
    memory.wait();
    for_ever();
}

#[process_fn]
fn init(memory: InShared<Once>, value: u64) -> Value {
    *memory.get_or_init(|| [value; 8])
}

#[process_fn]
fn wait(memory: InShared<Once>, there: Sender<()>) -> Option<Value> {
    there.send(()).unwrap();
    memory.wait_timeout(PATIENCE).copied()
}

scenario!(all_processes_get_the_same_value, {
    let memory = InShared::new(Once::new());
    let (there, come) = pipe().unwrap();
    let waits = Builder::new().spawn(wait::call(memory.again(), there)).unwrap();
    soon(&come);
    let others: Vec<_> = (1..5).map(|value| Builder::new().spawn(init::call(memory.again(), value)).unwrap()).collect();
    let value = waits.join().unwrap().unwrap();
    assert!(value[0] > 0 && value == [value[0]; 8]);
    others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), value));
    let once = &*memory;
    assert_eq!(once.set([9; 8]), Err([9; 8]));
    assert_eq!(once.get(), Some(&value));
});

scenario!(those_who_wait_take_over_from_a_dead_one, {
    let memory = InShared::new(Once::new());
    let dies = Held::start(|there| init_for_ever::call(memory.again(), there));
    let once = &*memory;
    assert_eq!(once.wait_timeout(Duration::from_millis(1)), None);
    let others: Vec<_> = (1..4).map(|value| Builder::new().spawn(init::call(memory.again(), value)).unwrap()).collect();
    let dead = Held::start(|there| wait_for_ever::call(memory.again(), there));
    assert_eq!(once.get(), None);
    dies.kill();
    dead.kill();
    let value = *once.wait_timeout(PATIENCE).expect("one of them takes over");
    others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), value));
});

const CELLS: usize = 4_000;

#[repr(C)]
struct Many {
    /// How many cells the children need not look at any more.
    done: AtomicU64,
    cells: [Once; CELLS],
}

#[process_fn]
fn init_all(memory: InShared<Many>, number: u64, there: Sender<()>) {
    let many = &*memory;
    there.send(()).unwrap();
    loop {
        let first = many.done.load(Ordering::Relaxed) as usize;
        for (index, cell) in many.cells.iter().enumerate().skip(first).take(50) {
            let value = cell.get_or_init(|| std::array::from_fn(|_| std::hint::black_box(number)));
            assert_eq!(*value, [value[0]; 8]);
            assert_eq!(cell.wait_timeout(Duration::ZERO), Some(value), "{index}");
            many.done.fetch_max(index as u64 + 1, Ordering::Relaxed);
        }
    }
}

const KILLED: u64 = 60;

scenario!(a_value_is_made_once_whoever_is_killed_when, limit(count(KILLED)), {
    let mut memory = InShared::new(Many::new());
    let mut rounds = count(KILLED);
    while rounds > 0 {
        let some = rounds.min(20);
        rounds -= some;
        let many = &*memory;
        let start = |number, there| init_all::call(memory.again(), number + 1, there);
        let check = || {
            let next = (many.done.load(Ordering::Relaxed) as usize).min(CELLS - 1);
            let value = many.cells[next].get_or_init(|| [77; 8]);
            assert!(value[0] > 0 && *value == [value[0]; 8]);
        };
        kill_at_random(3, some, start, |_| (), check);
        for cell in many.cells.iter().take(many.done.load(Ordering::Relaxed) as usize) {
            assert!(cell.get().is_some_and(|value| *value == [value[0]; 8]));
        }
        memory = InShared::new(Many::new());
    }
});

impl Many {
    fn new() -> Self {
        Self { done: AtomicU64::new(0), cells: [const { Once::new() }; CELLS] }
    }
}
