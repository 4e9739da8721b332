//! What rank 0 does in each test.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use mp_mpi::{Pool, TaskError, TaskOptions, WorldError};
use mp_shm::FrozenBuffer;

use crate::functions::*;
use crate::{cut, lost};

/// The tests, by their names.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("maps_have_values_in_order", maps),
    ("every_rank_has_workers", every_rank),
    ("a_crash_costs_one_task", crashes),
    ("a_panic_costs_one_task", panics),
    ("a_task_past_its_limit_is_killed_alone", timeouts),
    ("tasks_are_cancelled_wherever_they_are", cancelling),
    ("a_task_is_tried_again", retries),
    ("a_task_with_too_much_memory_is_killed", memory),
    ("workers_are_initialized", initializer),
    ("a_failing_initializer_fails_the_tasks", failing_initializer),
    ("workers_are_recycled", recycling),
    ("idle_workers_end_and_come_back", idle_workers),
    ("short_tasks_do_not_wait_behind_a_long_one", no_waiting),
    ("large_values_go_both_ways", large),
    ("handles_are_refused", handles),
    ("frozen_memory_goes_to_a_rank_once", frozen),
    ("handles_are_not_returned", no_handles_back),
    ("workers_have_no_launcher_variables", launcher_variables),
    ("the_leader_can_be_kept_free", free_leader),
    ("the_pool_is_resized", resizing),
    ("a_dropped_map_is_forgotten", forgotten_map),
    ("terminating_fails_what_is_left", terminating),
    ("a_complete_run_leaves_a_marker", marker),
    ("an_incomplete_run_leaves_none", no_marker),
    ("the_world_can_be_made_once", once),
    ("what_belongs_to_one_host_is_refused", not_portable),
];

/// Scenarios of the tests in `kills`.
const OTHERS: &[(&str, fn())] = &[
    ("busy", busy),
    ("survive", survive),
    ("panic_in_main", panic_in_main),
    ("exit_in_main", exit_in_main),
    ("no_world", || {}),
    ("world", || drop(world())),
    ("other_build", other_build),
    ("split", split),
    ("huge", huge),
];

pub(crate) fn run(name: &str) {
    let (_, scenario) = ALL
        .iter()
        .chain(OTHERS)
        .chain(lost::ALL)
        .chain(cut::SCENARIOS)
        .find(|(other, ..)| *other == name)
        .expect("there is such a scenario");
    scenario();
    println!("passed");
}

fn world() -> Pool {
    Pool::builder().workers_per_rank(1).build().expect("there is a launcher")
}

fn configured(configure: impl FnOnce(mp_pool::PoolBuilder) -> mp_pool::PoolBuilder) -> Pool {
    Pool::builder().workers_per_rank(1).configure(configure).build().expect("there is a launcher")
}

pub(crate) fn folder() -> PathBuf {
    std::env::var_os("MP_MPI_TEST_FOLDER").expect("the test has set it").into()
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    // The driver's limit ends it.
    while !holds() {
        std::thread::sleep(ms(2));
    }
}

fn maps() {
    let pool = world();
    assert_eq!(pool.map::<square>(0..1000).unwrap(), (0..1000).map(|number| number * number).collect::<Vec<_>>());
    let first: Vec<_> = pool.imap::<square>(1..).take(5).map(Result::unwrap).collect();
    assert_eq!(first, [1, 4, 9, 16, 25]);
    let mut seen = vec![false; 200_000];
    for (index, value) in pool.imap_unordered::<square>(0..200_000) {
        assert_eq!(value.unwrap(), (index * index) as u64);
        assert!(!std::mem::replace(&mut seen[index], true));
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(pool.submit(square::call(9)).join().unwrap(), 81);
    pool.finish().unwrap();
}

fn every_rank() {
    let pool = world();
    assert_eq!(pool.nodes().iter().map(|node| (node.rank, node.workers)).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(pool.workers(), 3);
    let pids: HashSet<_> = pool.map::<sleep>(vec![ms(50); 12]).unwrap().into_iter().collect();
    assert_eq!(pids.len(), 3);
    let report = pool.report();
    assert_eq!(report.workers.len(), 3);
    for worker in &report.workers {
        assert!(worker.tasks > 0 && worker.busy > ms(40), "{report}");
        assert!(worker.busy < report.elapsed, "{report}");
    }
    assert!(report.html().contains("<svg"));
    assert_eq!(report.stats.done, 12);
}

fn crashes() {
    let pool = world();
    let mut failed = Vec::new();
    for (index, value) in pool.imap_unordered::<crash_at>((0..2000).map(|number| (number, 777))) {
        match value {
            Ok(value) => assert_eq!(value, index as u64),
            Err(TaskError::Crashed { .. }) => failed.push(index),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(failed, [777]);
    // On every rank: each one has one of these.
    let tasks: Vec<_> = (0..6).map(|_| pool.submit(kill_self::call())).collect();
    let mut hosts = HashSet::new();
    for task in tasks {
        let Err(TaskError::Crashed { status, worker, attempts: 1, .. }) = task.join() else { panic!("it crashed") };
        assert_eq!(status.to_string(), "signal 9 (SIGKILL)");
        hosts.insert(worker);
    }
    assert_eq!(hosts.len(), 6, "each had a worker of its own: {hosts:?}");
    assert_eq!(pool.stats().crashed, 7);
    assert_eq!(pool.map::<square>(0..100).unwrap().len(), 100);
    pool.finish().unwrap();
}

fn panics() {
    let pool = world();
    let mut failed = Vec::new();
    for (index, value) in pool.imap_unordered::<panic_at>((0..500).map(|number| (number, 99))) {
        if let Err(error) = value {
            assert!(matches!(&error, TaskError::Panicked(panic) if panic.message == "not 99"), "{error}");
            failed.push(index);
        }
    }
    assert_eq!(failed, [99]);
    assert_eq!(pool.stats().started, 3, "a panic does not end a worker");
}

fn timeouts() {
    let pool = configured(|pool| pool.task_timeout(ms(300)));
    let tasks: Vec<_> =
        (0..30).map(|task| pool.submit(sleep::call(ms(if task % 10 == 3 { 60_000 } else { 1 })))).collect();
    for (index, task) in tasks.into_iter().enumerate() {
        let result = task.join();
        match index % 10 {
            3 => assert!(matches!(result, Err(TaskError::TimedOut { .. })), "{index}: {result:?}"),
            _ => assert!(result.is_ok(), "{index}: {result:?}"),
        }
    }
    assert_eq!(pool.stats().timed_out, 3);
    for task in (0..6).map(|_| pool.submit(deadline_in::call())).collect::<Vec<_>>() {
        let left = task.join().unwrap().expect("there is a limit");
        assert!(left > ms(0) && left <= ms(300));
    }
    let options = TaskOptions::new().timeout(Duration::from_secs(60));
    assert!(pool.submit_with(options, sleep::call(ms(500))).join().is_ok());
}

fn cancelling() {
    let pool = world();
    let tasks: Vec<_> = (0..9).map(|_| pool.submit(sleep::call(Duration::from_secs(60)))).collect();
    while pool.report().workers.iter().any(|worker| worker.running.is_none()) {
        std::thread::sleep(ms(5));
    }
    for task in &tasks {
        assert!(task.cancel());
    }
    for task in tasks {
        assert!(matches!(task.join(), Err(TaskError::Cancelled)));
    }
    // What ran was killed, and what waited was not begun.
    assert_eq!(pool.map::<square>(0..300).unwrap().len(), 300);
    while pool.stats().started < 6 {
        // Other hosts learn of it later.
        std::thread::sleep(ms(2));
    }
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.crashed, stats.done), (9, 0, 300));
    let done = pool.submit(square::call(3));
    while !done.is_done() {
        std::thread::sleep(ms(1));
    }
    assert!(!done.cancel());
}

fn retries() {
    let pool = configured(|pool| pool.retries(2));
    let tasks: Vec<_> =
        (0..6).map(|task| pool.submit(crash_once::call(folder().join(format!("once-{task}"))))).collect();
    for task in tasks {
        assert_eq!(task.join().unwrap(), "the second time");
    }
    let error = pool.submit(crash_at::call(1, 1)).join().unwrap_err();
    assert!(matches!(error, TaskError::Crashed { attempts: 3, .. }), "{error}");
}

fn memory() {
    let pool = Pool::builder().workers_per_rank(1).leader_works(false).configure(|pool| pool.memory_limit(128 << 20));
    let pool = pool.build().unwrap();
    let others: Vec<_> = (0..10).map(|_| pool.submit(sleep::call(ms(20)))).collect();
    let error = pool.submit(grow::call()).join().unwrap_err();
    assert!(matches!(error, TaskError::OutOfMemory { limit: 0x800_0000, .. }), "{error}");
    assert!(others.into_iter().all(|task| task.join().is_ok()));
    assert_eq!(pool.stats().out_of_memory, 1);
}

fn initializer() {
    let pool = configured(|pool| pool.initializer(fill::call(7)).name("Sim"));
    for task in (0..30).map(|_| pool.submit(first::call())).collect::<Vec<_>>() {
        assert_eq!(task.join().unwrap(), Some(7));
    }
}

fn failing_initializer() {
    let pool = configured(|pool| pool.initializer(fail_to_start::call()));
    for task in (0..4).map(|_| pool.submit(pid::call())).collect::<Vec<_>>() {
        let error = task.join().unwrap_err();
        assert_eq!(error, TaskError::Initializer("no licence".to_owned()));
    }
}

fn recycling() {
    let pool = configured(|pool| pool.max_tasks_per_worker(5));
    let pids = pool.map_ref::<pid>(&[(); 60]).unwrap();
    for pid in &pids {
        assert!(pids.iter().filter(|other| *other == pid).count() <= 5);
    }
    assert!(pool.stats().recycled >= 9);
}

fn idle_workers() {
    let pool = configured(|pool| pool.idle_timeout(ms(50)));
    assert_eq!(pool.map::<square>(0..10).unwrap().len(), 10);
    while pool.stats().workers > 0 {
        std::thread::sleep(ms(5));
    }
    assert_eq!(pool.map::<square>(0..10).unwrap().len(), 10);
}

fn no_waiting() {
    let pool = world();
    // The pool learns that the function is short.
    pool.map::<sleep>(vec![ms(0); 500]).unwrap();
    let long = pool.submit(sleep::call(Duration::from_secs(5)));
    let short = pool.map::<sleep>(vec![ms(1); 600]).unwrap();
    assert_eq!(short.len(), 600);
    assert!(!long.is_done());
    assert!(long.cancel());
}

fn large() {
    let pool = world();
    let bytes: Vec<u8> = (0..3 << 20).map(|byte| (byte % 251) as u8).collect();
    let mut reversed = bytes.clone();
    reversed.reverse();
    for length in [0, 100, 4 << 10, 5 << 10, 64 << 10, 70 << 10, 1 << 20, 3 << 20] {
        let tasks: Vec<_> = (0..6).map(|_| pool.submit(reverse::call(bytes[..length].to_vec()))).collect();
        for task in tasks {
            assert!(task.join().unwrap() == reversed[reversed.len() - length..], "{length}");
        }
    }
    pool.finish().unwrap();
}

fn handles() {
    let pool = world();
    let file = || mp_core::Fd(std::fs::File::open("/dev/null").unwrap());
    for task in (0..6).map(|_| pool.submit(take_handle::call(file()))).collect::<Vec<_>>() {
        let error = task.join().unwrap_err();
        assert!(matches!(&error, TaskError::NotSent(why) if why.contains("belong to one host")), "{error}");
    }
    pool.resize(3);
    assert_eq!(pool.map::<square>(0..30).unwrap().len(), 30);
}

fn frozen() {
    let pool = Pool::builder().leader_works(false).workers_per_rank(2).build().unwrap();
    let numbers: Vec<u64> = (0..1 << 20).collect();
    let buffer = FrozenBuffer::from_slice(&numbers).unwrap();
    let parts = (0..64).map(|part| (buffer.clone(), part << 14, (part + 1) << 14));
    assert_eq!(pool.map::<sum>(parts).unwrap().iter().sum::<u64>(), numbers.iter().sum::<u64>());
    // The workers of a rank have the same memory, and it is not the original.
    let own = std::fs::metadata(format!("/proc/self/fd/{}", buffer.as_fd().as_raw_fd())).unwrap().ino();
    let inodes = pool.map::<inode>((0..64).map(|_| buffer.clone())).unwrap();
    let inodes: HashSet<_> = inodes.into_iter().collect();
    assert!(inodes.len() == 2 && !inodes.contains(&own), "{inodes:?}, not {own}");
    // More than a rank keeps.
    let buffers: Vec<_> = (0..80).map(|number| FrozenBuffer::from_slice(&[number]).unwrap()).collect();
    for _ in 0..2 {
        let sums = pool.map::<sum>(buffers.iter().map(|buffer| (buffer.clone(), 0, 1))).unwrap();
        assert_eq!(sums, (0..80).collect::<Vec<_>>());
    }
    let result = pool.map::<sum>([(buffer, 0, 1)]);
    assert_eq!(result.unwrap(), [0]);
    pool.finish().unwrap();
}

fn no_handles_back() {
    let pool = Pool::builder().leader_works(false).workers_per_rank(1).build().unwrap();
    for task in (0..4).map(|_| pool.submit(give_handle::call())).collect::<Vec<_>>() {
        let error = task.join().unwrap_err();
        assert!(matches!(&error, TaskError::Encode(why) if why.to_string().contains("belong to one host")), "{error}");
    }
}

fn launcher_variables() {
    let pool = world();
    let tasks: Vec<_> = (0..12).map(|_| pool.submit(variables::call())).collect();
    for name in tasks.into_iter().flat_map(|task| task.join().unwrap()) {
        let is_of_launcher =
            ["OMPI_", "PMIX_", "PMI_", "HYDRA_", "HYDI_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(!is_of_launcher, "{name}");
    }
}

fn free_leader() {
    let pool = Pool::builder().leader_works(false).workers_per_rank(2).build().unwrap();
    assert_eq!(pool.nodes().iter().map(|node| node.workers).collect::<Vec<_>>(), [0, 2, 2]);
    let pids: HashSet<_> = pool.map::<sleep>(vec![ms(30); 16]).unwrap().into_iter().collect();
    assert_eq!(pids.len(), 4);
    pool.finish().unwrap();
}

fn resizing() {
    let pool = world();
    for workers in [1, 5, 2, 3] {
        pool.resize(workers);
        while pool.stats().workers != workers {
            std::thread::sleep(ms(2));
        }
        assert_eq!(pool.map::<square>(0..100).unwrap().len(), 100);
    }
}

fn forgotten_map() {
    let pool = world();
    let mut values = pool.imap_unordered::<sleep>(std::iter::repeat(ms(20)));
    assert!(values.next().unwrap().1.is_ok());
    drop(values);
    pool.close();
    pool.join();
}

fn terminating() {
    let pool = world();
    let tasks: Vec<_> = (0..10).map(|_| pool.submit(sleep::call(Duration::from_secs(60)))).collect();
    pool.terminate();
    for task in tasks {
        assert!(matches!(task.join(), Err(TaskError::PoolClosed)));
    }
    pool.join();
    assert_eq!(pool.stats().workers, 0);
}

fn marker() {
    let marker = folder().join("complete");
    std::fs::write(&marker, "of an earlier run").unwrap();
    let pool = Pool::builder().workers_per_rank(1).marker(&marker).build().unwrap();
    assert!(!marker.exists());
    pool.map::<square>(0..10).unwrap();
    assert!(!marker.exists());
    pool.finish().unwrap();
    assert_eq!(std::fs::read_to_string(marker).unwrap(), "complete: 10 tasks on 3 ranks\n");
}

fn no_marker() {
    let marker = folder().join("complete");
    let pool = Pool::builder().workers_per_rank(1).marker(&marker).build().unwrap();
    let task = pool.submit(sleep::call(Duration::from_secs(60)));
    drop(pool);
    assert!(matches!(task.join(), Err(TaskError::PoolClosed)));
    assert!(!marker.exists());
}

fn once() {
    let pool = world();
    assert!(matches!(Pool::world(), Err(WorldError::Again)));
    drop(pool);
    assert!(matches!(Pool::world(), Err(WorldError::Again)));
}

fn not_portable() {
    let builder = Pool::builder().configure(|pool| pool.stdout(mp_core::Stdio::null()));
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains("a standard stream"), "{error}");
}

/// Works until it is killed, and says when all workers do.
fn busy() {
    let pool = Pool::builder().workers_per_rank(2).build().unwrap();
    let mut at_work = HashSet::new();
    for (_, result) in pool.imap_unordered::<sleep>(std::iter::repeat(ms(5))) {
        // A worker may have been killed.
        if result.is_ok_and(|pid| at_work.insert(pid) && at_work.len() == 6) {
            std::fs::write(folder().join("working"), []).unwrap();
        }
    }
}

/// Works while a worker is killed, five times, until another one is in its place.
fn survive() {
    let pool = Pool::builder().workers_per_rank(1).configure(|pool| pool.retries(9)).build().unwrap();
    for round in 0..5 {
        std::fs::write(folder().join(format!("round-{round}")), []).unwrap();
        let killed = folder().join(format!("killed-{round}"));
        while !killed.exists() || pool.stats().started < 4 + round || pool.stats().workers < 3 {
            pool.map::<sleep>(vec![ms(2); 60]).unwrap();
        }
    }
    pool.finish().unwrap();
}

fn panic_in_main() {
    let _pool = world();
    panic!("main panics");
}

fn exit_in_main() {
    let _pool = world();
    std::process::exit(3);
}

fn other_build() {
    let error = Pool::world().unwrap_err();
    assert!(matches!(error, WorldError::OtherBuild { rank: 1, .. }), "{error}");
    println!("{error}");
}

/// Bodies in pieces of 100,000 bytes.
fn split() {
    large();
}

/// An argument of 3 GiB.
fn huge() {
    let pool = Pool::builder().workers_per_rank(1).leader_works(false).build().unwrap();
    assert_eq!(pool.submit(length::call(vec![1; 3 << 30])).join().unwrap(), 3 << 30);
    pool.finish().unwrap();
}
