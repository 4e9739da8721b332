//! What workers keep between tasks.

use std::collections::HashMap;

use mp_core::process_fn;
use mp_pool::{Pool, TaskError};
use mp_testing::scenario;

/// What a worker loads once, and what it has done with it.
#[derive(Default)]
struct Model {
    factor: Option<u64>,
    calls: u64,
}

#[process_fn(state = model)]
fn load(model: &mut Model, factor: u64) {
    model.factor = Some(factor);
}

/// Returns the product, and which call of this worker it was.
#[process_fn(state = model)]
fn multiply(model: &mut Model, number: u64) -> (u64, u32, u64) {
    model.calls += 1;
    assert_ne!(number, 13, "unlucky");
    let factor = model.factor.expect("the initializer has run");
    (factor * number, std::process::id(), model.calls)
}

#[process_fn(state = model)]
fn nested(model: &mut Model) -> bool {
    model.calls += 1;
    multiply::call(1).run().0 == 0
}

scenario!(tasks_find_what_the_initializer_left, {
    let pool = Pool::builder().workers(2).initializer(load::call(3)).build().unwrap();
    let mut calls: HashMap<u32, u64> = HashMap::new();
    for (index, result) in pool.imap_unordered::<multiply>(100..1_100) {
        let (product, pid, call) = result.unwrap();
        assert_eq!(product, 3 * (100 + index as u64));
        let last = calls.entry(pid).or_default();
        *last = call.max(*last);
    }
    assert_eq!(calls.values().sum::<u64>(), 1_000, "each worker has counted its own: {calls:?}");
});

scenario!(a_worker_that_replaces_another_starts_afresh, {
    let pool = Pool::builder().workers(1).max_tasks_per_worker(2).initializer(load::call(2)).build().unwrap();
    let calls: Vec<u64> = pool.map::<multiply>(0..6).unwrap().into_iter().map(|(_, _, call)| call).collect();
    assert_eq!(calls, [1, 2, 1, 2, 1, 2]);
});

scenario!(a_panic_leaves_the_state_as_it_was, {
    let pool = Pool::builder().workers(1).initializer(load::call(2)).build().unwrap();
    let results: Vec<_> = pool.imap::<multiply>([1, 13, 2]).collect();
    assert!(matches!(&results[1], Err(TaskError::Panicked(panic)) if panic.message.contains("unlucky")));
    assert_eq!(results[2].as_ref().map(|(product, _, call)| (*product, *call)), Ok((4, 3)));
});

scenario!(a_state_that_is_in_use_is_not_lent_twice, {
    let pool = Pool::builder().workers(1).initializer(load::call(2)).build().unwrap();
    let Err(TaskError::Panicked(panic)) = pool.submit(nested::call()).join() else { panic!("it panics") };
    assert!(panic.message.contains("Model` is in use"), "{panic}");
    assert_eq!(pool.submit(multiply::call(5)).join().map(|(product, ..)| product), Ok(10), "and goes on");
});
