//! Limits of time, memory and number, cancelling, retries and recycling.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError, TaskOptions};
use mp_testing::{eventually, scenario};

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

#[process_fn]
fn pid() -> u32 {
    std::process::id()
}

#[process_fn]
fn hang_on(number: u32, at: u32) -> u32 {
    if number == at {
        loop {
            std::thread::park();
        }
    }
    number
}

/// Says that it runs, and never ends.
#[process_fn]
fn hang(running: Sender<u32>) {
    running.send(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

/// Says that it runs, and waits until it is let go.
#[process_fn]
fn hold(running: Sender<u32>, until: Receiver<()>) {
    running.send(std::process::id()).unwrap();
    assert!(until.iter().next().is_none());
}

#[process_fn]
fn tell(number: u32, sender: Sender<u32>) -> u32 {
    sender.send(number).unwrap();
    number
}

/// Ends its worker, and counts how often in a file of this name.
#[process_fn]
fn count_and_abort(path: &std::path::Path, until: u64) -> u64 {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(b"x").unwrap();
    let times = file.metadata().unwrap().len();
    if times <= until {
        std::process::abort();
    }
    times
}

scenario!(a_task_past_its_time_limit_is_killed_with_its_worker_and_nothing_else, {
    let limit = Duration::from_secs(1);
    let pool = Pool::builder().workers(2).task_timeout(limit).build().unwrap();
    let start = Instant::now();
    let bad = pool.submit(hang_on::call(0, 0));
    let good: Vec<_> = (1..100).map(|number| pool.submit(hang_on::call(number, 0))).collect();
    assert!(matches!(bad.join(), Err(TaskError::TimedOut { limit: passed, .. }) if passed == limit));
    assert!(start.elapsed() >= limit, "it was killed early, after {:?}", start.elapsed());
    for (number, task) in (1..).zip(good) {
        assert_eq!(task.join(), Ok(number));
    }
    assert_eq!(pool.stats().timed_out, 1);
});

scenario!(a_time_limit_is_per_item_inside_a_map, {
    let limit = Duration::from_secs(1);
    let pool = Pool::builder().workers(2).task_timeout(limit).build().unwrap();
    let items = || (0..20_000).map(|number| (number, 10_000));
    let mut failed = Vec::new();
    for (index, value) in pool.imap_unordered::<hang_on>(items()) {
        match value {
            Ok(value) => assert_eq!(value as usize, index),
            Err(error) => failed.push((index, error)),
        }
    }
    assert!(matches!(failed[..], [(10_000, TaskError::TimedOut { limit: passed, .. })] if passed == limit));
    assert!(matches!(pool.map::<hang_on>(items()), Err(TaskError::TimedOut { limit: passed, .. }) if passed == limit));
});

scenario!(time_in_the_queue_does_not_count, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let (let_go, until) = pipe().unwrap();
    let first = pool.submit(hold::call(running, until));
    started.recv().unwrap();
    let mut behind = pool.submit_with(TaskOptions::new().timeout(Duration::from_secs(1)), double::call(1));
    assert_eq!(behind.join_timeout(Duration::from_millis(1100)), Ok(None));
    drop(let_go);
    first.join().unwrap();
    assert_eq!(behind.join(), Ok(2));
});

scenario!(a_task_knows_its_deadline, {
    #[process_fn]
    fn left() -> Option<Duration> {
        mp_pool::deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
    let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(100)).build().unwrap();
    let hundred = pool.submit(left::call()).join().unwrap().unwrap();
    assert!(hundred > Duration::from_secs(50) && hundred <= Duration::from_secs(100));
    let options = TaskOptions::new().timeout(Duration::from_secs(1_000));
    let thousand = pool.submit_with(options, left::call()).join().unwrap().unwrap();
    assert!(thousand > Duration::from_secs(500));
    assert_eq!(Pool::new(1).unwrap().submit(left::call()).join(), Ok(None));
    assert_eq!(mp_pool::deadline(), None);
});

scenario!(a_running_task_can_be_cancelled, {
    let pool = Pool::new(2).unwrap();
    let (running, started) = pipe().unwrap();
    let task = pool.submit(hang::call(running));
    let worker = started.recv().unwrap();
    assert!(task.cancel());
    assert!(!task.cancel());
    assert_eq!(task.join(), Err(TaskError::Cancelled));
    eventually("the worker is gone", || !mp_testing::procfs::runs(worker));
    assert_eq!(pool.map::<double>(0..10).unwrap().len(), 10);
});

scenario!(a_queued_task_can_be_cancelled_and_never_runs, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let (let_go, until) = pipe().unwrap();
    let first = pool.submit(hold::call(running, until));
    started.recv().unwrap();
    let (sender, receiver) = pipe().unwrap();
    // Some of them are with the worker already.
    let plain: Vec<_> = (0..10).map(|number| pool.submit(double::call(number))).collect();
    let told: Vec<_> = (0..10).map(|number| pool.submit(tell::call(number, sender.try_clone().unwrap()))).collect();
    drop(sender);
    for task in plain.iter().step_by(2) {
        assert!(task.cancel());
    }
    for task in told.iter().step_by(2) {
        assert!(task.cancel());
    }
    drop(let_go);
    first.join().unwrap();
    for (number, task) in (0..).zip(plain) {
        assert_eq!(task.join(), if number % 2 == 0 { Err(TaskError::Cancelled) } else { Ok(number * 2) });
    }
    for (number, task) in (0..).zip(told) {
        assert_eq!(task.join(), if number % 2 == 0 { Err(TaskError::Cancelled) } else { Ok(number) });
    }
    assert!(receiver.iter().map(Result::unwrap).eq([1, 3, 5, 7, 9]));
    assert_eq!(pool.stats().crashed, 0);
});

scenario!(a_task_that_is_done_cannot_be_cancelled, {
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(double::call(3));
    eventually("it is done", || task.is_done());
    assert!(!task.cancel());
    assert_eq!(task.join(), Ok(6));
});

scenario!(dropping_cancels_if_that_was_asked_for, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let task = pool.submit(hang::call(running)).cancel_on_drop(true);
    started.recv().unwrap();
    drop(task);
    assert_eq!(pool.submit(double::call(1)).join(), Ok(2));
});

scenario!(a_task_whose_worker_died_is_run_again_as_often_as_that_was_allowed, {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::builder().workers(2).retries(2).build().unwrap();
    let path = directory.path().join("succeeds");
    assert_eq!(pool.submit(count_and_abort::call(&path, 2)).join(), Ok(3));
    let path = directory.path().join("fails");
    let error = pool.submit(count_and_abort::call(&path, 100)).join().unwrap_err();
    assert!(matches!(error, TaskError::Crashed { attempts: 3, .. }), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 3);
    let path = directory.path().join("once");
    let error = pool.submit_with(TaskOptions::new().retries(0), count_and_abort::call(&path, 1)).join().unwrap_err();
    assert!(matches!(error, TaskError::Crashed { attempts: 1, .. }), "{error}");
});

scenario!(a_panic_and_a_time_limit_are_not_tried_again, {
    #[process_fn]
    fn fail(path: &std::path::Path, hang: bool) {
        use std::io::Write;
        std::fs::File::options().append(true).create(true).open(path).unwrap().write_all(b"x").unwrap();
        assert!(hang, "it fails");
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::builder().workers(1).retries(5).task_timeout(Duration::from_secs(1)).build().unwrap();
    for hang in [false, true] {
        let path = directory.path().join(hang.to_string());
        assert!(pool.submit(fail::call(&path, hang)).join().is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1);
    }
});

scenario!(workers_are_replaced_after_so_many_tasks, {
    for prefetch in [0, 1, 10] {
        let pool = Pool::builder().workers(2).max_tasks_per_worker(3).prefetch(prefetch).build().unwrap();
        let tasks: Vec<_> = (0..60).map(|_| pool.submit(pid::call())).collect();
        let mut by_worker = std::collections::HashMap::<u32, u32>::new();
        for task in tasks {
            *by_worker.entry(task.join().unwrap()).or_default() += 1;
        }
        assert!(by_worker.values().all(|count| *count <= 3), "{by_worker:?}");
        assert!(by_worker.len() >= 20);
        assert_eq!(pool.map::<double>(0..1_000).unwrap().len(), 1_000);
        assert_eq!(pool.stats().crashed, 0);
    }
});

/// Takes long enough for the thread that submitted it to look for the result, and not so long that
/// it sleeps.
#[process_fn]
fn brief() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(15) {}
}

scenario!(a_worker_is_replaced_whoever_saw_its_last_result, {
    let pool = Pool::builder().workers(1).max_tasks_per_worker(4).build().unwrap();
    for _ in 0..200 {
        // This thread looks for the result before it sleeps.
        assert_eq!(pool.submit(brief::call()).join(), Ok(()));
    }
    assert!(pool.stats().recycled >= 49);
});

scenario!(a_worker_that_grows_is_replaced_between_tasks, {
    #[process_fn]
    fn leak(bytes: usize) -> u32 {
        std::mem::forget(std::hint::black_box(vec![1_u8; bytes]));
        std::process::id()
    }
    let pool = Pool::builder().workers(1).recycle_above(100 << 20).build().unwrap();
    let small = pool.submit(leak::call(1)).join().unwrap();
    assert_eq!(pool.submit(leak::call(1)).join().unwrap(), small);
    assert_eq!(pool.submit(leak::call(200 << 20)).join().unwrap(), small);
    eventually("it is replaced", || pool.stats().recycled == 1);
    assert_ne!(pool.submit(leak::call(1)).join().unwrap(), small);
    assert_eq!(pool.stats().crashed, 0);
});

scenario!(a_task_past_the_memory_limit_is_killed_and_says_so, {
    #[process_fn]
    fn grow_on(number: u32, at: u32) -> u32 {
        let mut memory = Vec::new();
        if number == at {
            loop {
                memory.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        number
    }
    let limit = 100 << 20;
    let pool = Pool::builder().workers(2).memory_limit(limit).build().unwrap();
    let bad = pool.submit(grow_on::call(1, 1));
    let good: Vec<_> = (2..50).map(|number| pool.submit(grow_on::call(number, 1))).collect();
    let error = bad.join().unwrap_err();
    assert!(matches!(error, TaskError::OutOfMemory { used, limit: 0x640_0000, .. } if used > limit), "{error}");
    for (number, task) in (2..).zip(good) {
        assert_eq!(task.join(), Ok(number));
    }
});

scenario!(idle_workers_end_and_come_back, {
    let pool = Pool::builder().workers(3).idle_timeout(Duration::from_millis(30)).build().unwrap();
    assert_eq!(pool.submit(double::call(1)).join(), Ok(2));
    eventually("they are gone", || mp_testing::start_method::children().is_empty());
    for _ in 0..3 {
        assert_eq!(pool.map::<double>(0..100).unwrap().len(), 100);
        eventually("they are gone again", || pool.stats().workers == 0);
    }
    assert_eq!(pool.stats().crashed, 0);
});

scenario!(a_pool_is_resized_while_it_works, {
    let pool = Pool::new(1).unwrap();
    let pids = || -> HashSet<u32> {
        let (running, started) = pipe().unwrap();
        let (let_go, until) = pipe().unwrap();
        let tasks: Vec<_> = (0..pool.workers())
            .map(|_| pool.submit(hold::call(running.try_clone().unwrap(), until.try_clone().unwrap())))
            .collect();
        drop(running);
        let pids = (0..tasks.len()).map(|_| started.recv().unwrap()).collect();
        drop((let_go, until));
        tasks.into_iter().for_each(|task| task.join().unwrap());
        pids
    };
    for workers in [1, 4, 2, 3, 1] {
        pool.resize(workers);
        assert_eq!(pool.workers(), workers);
        assert_eq!(pids().len(), workers);
        eventually("there are as many", || pool.stats().workers == workers);
    }
    let tasks: Vec<_> = (0..500).map(|number| pool.submit(double::call(number))).collect();
    for workers in [4, 1, 3, 2] {
        pool.resize(workers);
    }
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.join(), Ok(number * 2));
    }
});

scenario!(tasks_of_a_higher_priority_go_first, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let (let_go, until) = pipe().unwrap();
    let first = pool.submit(hold::call(running, until));
    started.recv().unwrap();
    let (sender, receiver) = pipe().unwrap();
    let tasks: Vec<_> = [0, 2, 1, 2, 0]
        .into_iter()
        .zip(0..)
        .map(|(priority, number)| {
            let options = TaskOptions::new().priority(priority);
            pool.submit_with(options, tell::call(number, sender.try_clone().unwrap()))
        })
        .collect();
    drop((sender, let_go));
    first.join().unwrap();
    for task in tasks {
        task.join().unwrap();
    }
    assert!(receiver.iter().map(Result::unwrap).eq([1, 3, 2, 0, 4]));
});

scenario!(a_producer_can_be_held_up, {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..2_000)
        .map(|number| {
            let task = pool.submit_when_below(10, double::call(number));
            assert!(pool.stats().queued <= 10);
            task
        })
        .collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.join(), Ok(number * 2));
    }
});
