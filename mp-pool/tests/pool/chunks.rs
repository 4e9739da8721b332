//! Tasks that are sent many at a time: no promise is any weaker for it.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mp_core::{ExitStatus, Receiver, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::faults::{self, Random};
use mp_testing::leaks::status_kib;
use mp_testing::{eventually, scenario};
use rustix::process::{Signal, kill_process};

#[process_fn]
fn double(number: u64) -> u64 {
    number * 2
}

#[process_fn]
fn crash_on(number: u64, every: u64) -> u64 {
    if number % every == every / 2 {
        std::process::abort();
    }
    number
}

/// Says that it runs, and waits until it is let go.
#[process_fn]
fn hold(running: Sender<u32>, until: Receiver<()>) {
    running.send(std::process::id()).unwrap();
    assert!(until.iter().next().is_none());
}

scenario!(a_million_items_are_mapped_in_order, {
    let pool = Pool::new(2).unwrap();
    let values = pool.map::<double>(0..1_000_000).unwrap();
    assert!(values.into_iter().eq((0..1_000_000).map(|number| number * 2)));
});

scenario!(crashes_inside_chunks_cost_one_item_each, {
    let pool = Pool::new(2).unwrap();
    // So that the pool knows that they are short.
    pool.map::<crash_on>((0..100_000).map(|number| (number, u64::MAX))).unwrap();
    let mut crashed = HashSet::new();
    let items = (0..20_000).map(|number| (number, 1_000));
    for (index, value) in pool.imap_unordered::<crash_on>(items) {
        match value {
            Ok(value) => assert_eq!(value, index as u64),
            Err(TaskError::Crashed { status: ExitStatus::Signal { signal: 6, .. }, attempts: 1, .. }) => {
                assert!(crashed.insert(index));
            }
            Err(error) => panic!("{index}: {error}"),
        }
    }
    assert_eq!(crashed, (0..20).map(|chunk| chunk * 1_000 + 500).collect());
    assert_eq!(pool.stats().crashed, 20);
});

scenario!(each_item_runs_once_although_its_chunk_is_moved_about, {
    #[process_fn]
    fn note(number: u64, path: &str) -> u64 {
        use std::io::Write;
        if number % 97 == 13 {
            std::process::abort();
        }
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
        number
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let pool = Pool::new(3).unwrap();
    let results: Vec<_> = pool.imap::<note>((0..2_000).map(|number| (number, path.clone()))).collect();
    for (number, result) in (0..).zip(&results) {
        match result {
            Ok(value) => assert_eq!(*value, number),
            Err(error) => assert!(number % 97 == 13 && matches!(error, TaskError::Crashed { attempts: 1, .. })),
        }
    }
    let mut seen: Vec<u64> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq((0..2_000).filter(|number| number % 97 != 13)));
});

scenario!(short_items_do_not_wait_behind_a_long_one, {
    #[process_fn]
    fn wait_at(number: u64, at: u64, until: Option<Receiver<()>>) -> u64 {
        if number == at {
            assert!(until.unwrap().iter().next().is_none());
        }
        number
    }
    let pool = Pool::new(2).unwrap();
    pool.map::<wait_at>((0..100_000).map(|number| (number, u64::MAX, None))).unwrap();
    let (let_go, until) = pipe::<()>().unwrap();
    let mut until = Some(until);
    let items = (0..10_000).map(|number| (number, 3_000, if number == 3_000 { until.take() } else { None }));
    let mut values = pool.imap_unordered::<wait_at>(items);
    // All but one come although that one does not end.
    let mut seen: HashSet<usize> = values
        .by_ref()
        .take(9_999)
        .map(|(index, value)| {
            assert_eq!(value.unwrap(), index as u64);
            index
        })
        .collect();
    assert!(!seen.contains(&3_000));
    drop(let_go);
    seen.extend(values.map(|(index, _)| index));
    assert_eq!(seen.len(), 10_000);
});

scenario!(results_of_short_items_do_not_wait_for_a_long_one_behind_them, {
    #[process_fn]
    fn hang_at(number: u64, at: u64) -> u64 {
        if number == at {
            loop {
                std::thread::park();
            }
        }
        number
    }
    let pool = Pool::new(1).unwrap();
    pool.map::<hang_at>((0..100_000).map(|number| (number, u64::MAX))).unwrap();
    let mut values = pool.imap::<hang_at>((0..1_000).map(|number| (number, 500)));
    for number in 0..500 {
        assert_eq!(values.next().unwrap(), Ok(number));
    }
});

scenario!(imap_keeps_the_order_and_reads_only_its_window, {
    let pool = Pool::new(2).unwrap();
    let read = Cell::new(0);
    let items = (0..).inspect(|_| read.set(read.get() + 1));
    let mut values = pool.imap::<double>(items).window(16);
    assert_eq!(read.get(), 0);
    for given in 0..10_000 {
        assert_eq!(values.next().unwrap(), Ok(given * 2));
        assert!(read.get() <= given + 1 + 16, "{} items were read for {given} values", read.get());
    }
    drop(values);
    // The window that is chosen is bounded as well.
    read.set(0);
    let mut values = pool.imap::<double>((0..).inspect(|_| read.set(read.get() + 1)));
    for given in 0..100_000 {
        assert_eq!(values.next().unwrap(), Ok(given * 2));
        assert!(read.get() <= given + 1 + 2 * 16_384 + 8_192);
    }
});

scenario!(lazy_maps_know_how_many_values_there_will_be, {
    let pool = Pool::new(2).unwrap();
    let mut values = pool.imap_unordered::<double>(0..1_000);
    let mut ordered = pool.imap::<double>((0..1_000).filter(|number| number % 2 == 0));
    for given in 0..1_000 {
        assert_eq!(values.size_hint(), (1_000 - given, Some(1_000 - given)));
        values.next().unwrap().1.unwrap();
    }
    assert_eq!(values.size_hint(), (0, Some(0)));
    assert!(values.next().is_none());
    for given in 0..500 {
        let (least, most) = ordered.size_hint();
        assert!(least <= 500 - given && most.unwrap() >= 500 - given);
        ordered.next().unwrap().unwrap();
    }
    assert_eq!(pool.imap::<double>(0..77).size_hint(), (77, Some(77)));
});

scenario!(memory_stays_flat_over_many_items, {
    let pool = Pool::new(2).unwrap();
    let items = faults::count(20) * 100_000;
    let mut values = pool.imap_unordered::<double>(0..items);
    let mut sum = 0_u64;
    for _ in 0..items / 4 {
        sum += values.next().unwrap().1.unwrap();
    }
    let before = status_kib("VmRSS");
    for (_, value) in values {
        sum += value.unwrap();
    }
    let after = status_kib("VmRSS");
    assert_eq!(sum, items * (items - 1));
    assert!(after < before + 16 * 1024, "it grew from {before} KiB to {after} KiB");
});

scenario!(dropping_a_lazy_map_forgets_what_has_not_begun, {
    #[process_fn]
    fn slow(number: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(5));
        number
    }
    let pool = Pool::new(2).unwrap();
    let mut values = pool.imap_unordered::<slow>(0..).window(1_000);
    values.next().unwrap().1.unwrap();
    drop(values);
    let start = Instant::now();
    assert_eq!(pool.submit(double::call(4)).join(), Ok(8));
    assert!(start.elapsed() < Duration::from_secs(2), "it waited for what nobody wants");
    eventually("nothing is left", || {
        let stats = pool.stats();
        stats.queued + stats.sent == 0
    });
});

scenario!(items_of_any_size_come_back_inside_chunks, {
    #[process_fn]
    fn grow(length: usize, bytes: Vec<u8>) -> Vec<u8> {
        assert!(bytes.len() == length && bytes.iter().all(|byte| *byte == length as u8));
        vec![length as u8; length * 2]
    }
    let pool = Pool::new(2).unwrap();
    let lengths = [0, 1, 7, 100, 2_000, 4_000, 4_080, 4_100, 20_000, 70_000, 300_000, 500_000, 700_000];
    let lengths: Vec<usize> = (0..1_300).map(|index| lengths[(index * 7) % lengths.len()]).collect();
    let items = lengths.iter().map(|length| (*length, vec![*length as u8; *length]));
    for (index, value) in pool.imap_unordered::<grow>(items) {
        let length = lengths[index];
        assert!(value.unwrap() == vec![length as u8; length * 2], "{length}");
    }
});

scenario!(panics_and_undecodable_values_inside_chunks_are_those_of_their_items, {
    #[process_fn]
    fn pick(number: u64) -> Result<u64, String> {
        match number % 10 {
            3 => panic!("{number}"),
            4 => Err("x".repeat(5_000)),
            _ => Ok(number),
        }
    }
    let pool = Pool::new(2).unwrap();
    let mut count = 0;
    for (index, value) in (0..).zip(pool.imap::<pick>(0..3_000)) {
        count += 1;
        match (index % 10, value) {
            (3, Err(TaskError::Panicked(panic))) => assert_eq!(panic.message, index.to_string()),
            (4, Ok(Err(text))) => assert_eq!(text.len(), 5_000),
            (_, value) => assert_eq!(value, Ok(Ok(index))),
        }
    }
    assert_eq!(count, 3_000);
});

/// Kills workers at random, until `work` returns. It gets how many were killed.
fn while_workers_are_killed(work: impl FnOnce(&AtomicUsize)) {
    let killed = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new();
            while !is_over.load(Ordering::Relaxed) {
                // Mostly longer than a worker takes to start.
                faults::busy(random.moment(Duration::from_millis(10)));
                let children = mp_testing::start_method::children();
                if !children.is_empty() {
                    let victim = children[random.below(children.len() as u64) as usize].pid;
                    // It may have ended by itself, and then its number is nobody's: it is reaped by
                    // this process only.
                    if kill_process(mp_testing::procfs::number_of(victim), Signal::KILL).is_ok() {
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        // Even if it panics, because the scope waits for the thread.
        let result = catch_unwind(AssertUnwindSafe(|| work(&killed)));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    });
}

scenario!(a_map_whose_workers_are_killed_all_the_time_has_every_value_in_order, {
    let items = faults::count(67) * 1_500;
    let pool = Pool::builder().workers(2).retries(1_000).build().unwrap();
    while_workers_are_killed(|killed| {
        let mut rounds = 0;
        while killed.load(Ordering::Relaxed) < 5 {
            // All workers can be killed again and again before they are ready.
            match pool.map::<double>(0..items) {
                Ok(values) => assert!(values.into_iter().eq((0..items).map(|item| item * 2))),
                Err(error) => assert!(matches!(error, TaskError::NoWorker(_)), "{error}"),
            }
            rounds += 1;
        }
        println!("{} kills in {rounds} maps of {items} items", killed.load(Ordering::Relaxed));
    });
});

scenario!(workers_killed_all_the_time_cost_what_they_run, faults::limit(faults::count(67) * 20), {
    let kills = faults::count(67);
    let items = kills * 1_500;
    let pool = Pool::new(2).unwrap();
    while_workers_are_killed(|killed| {
        // In order, once each, with the right value or a named error.
        let (mut done, mut crashed, mut without_worker, mut next) = (0, 0, 0, 0);
        for value in pool.imap::<double>(0..items) {
            match value {
                Ok(value) => {
                    assert_eq!(value, next * 2);
                    done += 1;
                }
                Err(TaskError::Crashed { status: ExitStatus::Signal { signal: 9, .. }, attempts: 1, .. }) => {
                    crashed += 1
                }
                // All workers were killed again and again before they were ready.
                Err(TaskError::NoWorker(_)) => without_worker += 1,
                Err(error) => panic!("{next}: {error}"),
            }
            next += 1;
            if next % 1_500 == 0 {
                // Time for a kill.
                let so_far = killed.load(Ordering::Relaxed);
                mp_testing::holds_within(Duration::from_millis(60), || killed.load(Ordering::Relaxed) > so_far);
            }
        }
        let killed = killed.load(Ordering::Relaxed);
        println!("{killed} kills cost {crashed} of {items} items; {without_worker} found no worker");
        assert_eq!((done + crashed + without_worker, next), (items, items));
        assert!(crashed <= killed as u64, "a kill costs one item at most");
    });
});

scenario!(a_killed_worker_loses_no_result_that_it_had, {
    // The first call of each pair is done and the second one runs when the worker is killed, before
    // the pool has been told of anything.
    let pool = Pool::new(1).unwrap();
    for number in 0..50 {
        let (running, started) = pipe().unwrap();
        let (_let_go, until) = pipe().unwrap();
        let first = pool.submit(double::call(number));
        let second = pool.submit(hold::call(running, until));
        let third = pool.submit(double::call(number + 1));
        let worker = started.recv().unwrap();
        kill_process(mp_testing::procfs::number_of(worker), Signal::KILL).unwrap();
        assert_eq!(first.join(), Ok(number * 2));
        assert!(matches!(second.join(), Err(TaskError::Crashed { attempts: 1, .. })));
        assert_eq!(third.join(), Ok(number * 2 + 2));
    }
});

scenario!(values_that_suddenly_are_long_are_no_breach_of_the_protocol, {
    #[process_fn]
    fn bytes(length: usize) -> Vec<u8> {
        vec![1; length]
    }
    // Short calls are sent many thousand at a time, and each of these values is a packet.
    let pool = Pool::new(1).unwrap();
    let lengths = || (0..60_000).map(|index| if index < 30_000 { 1 } else { 5_000 });
    let values = pool.map::<bytes>(lengths()).unwrap();
    assert!(values.iter().map(Vec::len).eq(lengths()));
    assert_eq!(pool.stats().misbehaved, 0);
});
