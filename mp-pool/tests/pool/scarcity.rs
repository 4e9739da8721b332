//! Pools that run out of descriptors.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mp_core::process_fn;
use mp_pool::{Pool, TaskError};
use mp_shm::{Array, FrozenBuffer, Shared, Value};
use mp_testing::scenario;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit, test_kill_process};

fn allow_descriptors(count: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..getrlimit(Resource::Nofile) }).unwrap();
}

/// Takes every descriptor that is left.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[process_fn]
fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

fn bytes(seed: usize) -> Vec<u8> {
    (0..20_000).map(|index| (index * 7 + seed) as u8).collect()
}

scenario!(waiting_calls_and_unjoined_results_hold_no_descriptors, {
    allow_descriptors(48);
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..200).map(|seed| pool.submit(reverse::call(bytes(seed)))).collect();
    mp_testing::eventually("every task is done", || tasks.iter().all(|task| task.is_done()));
    for (seed, task) in tasks.into_iter().enumerate() {
        let mut value = task.join().unwrap();
        value.reverse();
        assert_eq!(value, bytes(seed));
    }
});

#[process_fn]
fn count(counter: Value<u64>, table: FrozenBuffer<u64>, flags: Array<u8>, total: Shared<AtomicU64>, place: usize) {
    counter.update(|counter| *counter += table[place]).unwrap();
    flags.set(place, 1).unwrap();
    total.fetch_add(1, Relaxed);
}

scenario!(waiting_calls_share_the_descriptors_of_their_memory, {
    const CALLS: usize = 300;
    allow_descriptors(64);
    let pool = Pool::new(2).unwrap();
    let (counter, flags) = (Value::new(0).unwrap(), Array::<u8>::zeroed(CALLS).unwrap());
    let table = FrozenBuffer::from_slice(&[2; CALLS]).unwrap();
    let total = Shared::new(AtomicU64::new(0)).unwrap();
    let handles = |place| (counter.clone(), table.slice(..), flags.clone(), total.clone(), place);
    let calls = (0..CALLS).map(|place| {
        let (counter, table, flags, total, place) = handles(place);
        pool.submit(count::call(counter, table, flags, total, place))
    });
    calls.collect::<Vec<_>>().into_iter().for_each(|task| task.join().unwrap());
    pool.map::<count>((0..CALLS).map(handles)).unwrap();
    assert_eq!((counter.get().unwrap(), total.load(Relaxed)), (4 * CALLS as u64, 2 * CALLS as u64));
    assert!(flags.lock().unwrap().iter().all(|flag| *flag == 1));
});

scenario!(a_pool_without_descriptors_fails_tasks_and_goes_on_after_relief, {
    allow_descriptors(64);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.submit(double::call(1)).join().unwrap(), 2);
    for _ in 0..3 {
        let taken = take_all();
        // A long call needs memory of its own to travel in, for which no descriptor is free; a
        // short one does not.
        let error = pool.submit(reverse::call(vec![1; 100_000])).join().unwrap_err();
        assert!(matches!(error, TaskError::NotSent(_)), "{error:?}");
        assert_eq!(pool.submit(double::call(21)).join().unwrap(), 42);
        // The worker has descriptors for a long result, the pool has none to receive it with.
        #[process_fn]
        fn long(length: usize) -> Vec<u8> {
            vec![1; length]
        }
        let error = pool.submit(long::call(100_000)).join().unwrap_err();
        assert!(matches!(error, TaskError::NotReceived(_)), "{error:?}");
        drop(taken);
        assert_eq!(pool.submit(long::call(100_000)).join().unwrap().len(), 100_000);
    }
});

scenario!(a_pool_that_could_not_replace_its_worker_does_so_after_relief, {
    allow_descriptors(64);
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.submit(double::call(1)).join().unwrap(), 2);
    let workers = mp_testing::start_method::children();
    // What the worker had is not enough to start another. What two had would be.
    let taken = take_all();
    for worker in &workers {
        kill_process(Pid::from_raw(worker.pid as i32).unwrap(), Signal::KILL).unwrap();
    }
    mp_testing::eventually("the workers are gone", || {
        workers.iter().all(|worker| test_kill_process(Pid::from_raw(worker.pid as i32).unwrap()).is_err())
    });
    let error = pool.submit(double::call(2)).join().unwrap_err();
    assert!(matches!(error, TaskError::NoWorker(_)), "{error:?}");
    drop(taken);
    assert_eq!(pool.submit(double::call(3)).join().unwrap(), 6);
});
