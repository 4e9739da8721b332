//! What the pools of loky, pebble and mpire are tested for in their repositories: crashes at every
//! step of a task, callbacks that misuse the pool, workers that kill each other.
//!
//! What is a test elsewhere in this crate is not repeated: `docs/PROMISES.md` has the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mp_core::{ExitStatus, Receiver, Sender, current, pipe, process_fn};
use mp_pool::{Pool, TaskError, TaskOptions};
use mp_testing::{PATIENCE, scenario};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

#[process_fn]
fn double(number: u64) -> u64 {
    number * 2
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum When {
    /// While the worker decodes the argument.
    Decoding,
    /// In the function.
    Running,
    /// When the function drops it.
    Dropping,
    /// While the worker encodes it as the result.
    Encoding,
    /// While the pool decodes the result.
    Receiving,
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum How {
    Error,
    Panic,
    Exit(i32),
    Abort,
    Kill,
}

/// A value with which something happens at one step.
struct Trap {
    when: When,
    how: How,
}

impl Trap {
    /// What happens at this step, if it is the one.
    fn at(&self, when: When) -> Result<(), &'static str> {
        let is_worker = current().name() != "scenario";
        if self.when != when || is_worker == (when == When::Receiving) {
            return Ok(());
        }
        match self.how {
            How::Error => Err("it is a trap"),
            How::Panic => panic!("it is a trap"),
            How::Exit(code) => std::process::exit(code),
            How::Abort => std::process::abort(),
            How::Kill => {
                kill_process(getpid(), Signal::KILL).unwrap();
                Err("it was killed")
            }
        }
    }
}

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.at(When::Encoding).map_err(ser::Error::custom)?;
        (self.when, self.how).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (when, how) = Deserialize::deserialize(deserializer)?;
        let trap = Self { when, how };
        trap.at(if current().name() == "scenario" { When::Receiving } else { When::Decoding })
            .map_err(de::Error::custom)?;
        Ok(trap)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Err(error) = self.at(When::Dropping) {
            panic!("{error}");
        }
    }
}

/// Gives the value back, unless something happens.
#[process_fn]
fn walk_into(trap: Trap) -> Trap {
    if let Err(error) = trap.at(When::Running) {
        panic!("{error}");
    }
    match trap.when {
        When::Dropping => Trap { when: When::Nowhere, how: trap.how },
        _ => trap,
    }
}

// loky: test_crashes.
scenario!(a_trap_at_any_step_of_a_task_costs_that_task, {
    let pool = Pool::new(2).unwrap();
    let steps = [When::Decoding, When::Running, When::Dropping, When::Encoding];
    let ways = [How::Error, How::Panic, How::Exit(0), How::Exit(3), How::Abort, How::Kill];
    for (when, how) in steps.into_iter().flat_map(|when| ways.map(|how| (when, how))) {
        let error = pool.submit(walk_into::call(Trap { when, how })).join().err().expect("it fails");
        let is_it = match (how, when, &error) {
            (How::Error, When::Decoding, TaskError::Decode(_)) => true,
            (How::Error, When::Encoding, TaskError::Encode(_)) => true,
            (How::Error, When::Running | When::Dropping, TaskError::Panicked(panic))
            | (How::Panic, _, TaskError::Panicked(panic)) => panic.message.contains("it is a trap"),
            (How::Exit(code), _, TaskError::Crashed { status, .. }) => *status == ExitStatus::Code(code),
            (How::Abort, _, TaskError::Crashed { status: ExitStatus::Signal { signal: 6, .. }, .. }) => true,
            (How::Kill, _, TaskError::Crashed { status: ExitStatus::Signal { signal: 9, .. }, .. }) => true,
            _ => false,
        };
        assert!(is_it, "{how:?} when {when:?}: {error:?}");
        assert_eq!(pool.submit(double::call(21)).join(), Ok(42), "after {how:?} when {when:?}");
    }
    let undecodable = Trap { when: When::Receiving, how: How::Error };
    let error = pool.submit(walk_into::call(undecodable)).join().err().expect("it fails");
    assert!(matches!(error, TaskError::Decode(_)), "{error:?}");
    // A callback is told of that as well, however decoding fails.
    for how in [How::Error, How::Panic] {
        let (tell, told) = mpsc::channel();
        let undecodable = Trap { when: When::Receiving, how };
        pool.submit(walk_into::call(undecodable)).on_done(move |result| tell.send(result.map(drop)).unwrap());
        let result = told.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(result, Err(TaskError::Decode(_))), "{result:?}");
    }
    assert_eq!(pool.map::<double>(0..100).unwrap().len(), 100);
});

// loky: test_in_callback_submit_with_crash, test_callback_crash_on_submit.
scenario!(callbacks_submit_tasks_that_crash, {
    let pool = Arc::new(Pool::new(2).unwrap());
    for how in [How::Panic, How::Exit(0), How::Abort, How::Kill] {
        let (tell, told) = mpsc::channel();
        let within = Arc::clone(&pool);
        pool.submit(double::call(1)).on_done(move |result| {
            let trap = Trap { when: When::Running, how };
            tell.send((result, within.submit(walk_into::call(trap)).join().map(drop))).unwrap();
        });
        let (first, second) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(first, Ok(2));
        assert!(matches!(second, Err(TaskError::Panicked(_) | TaskError::Crashed { .. })), "{how:?}: {second:?}");
    }
});

/// Says which process runs it, and goes on until the other end is closed.
#[process_fn]
fn occupy(pid: Sender<u32>, until: Receiver<()>) {
    pid.send(std::process::id()).unwrap();
    let _ = until.recv();
}

// loky: test_killed_child_with_cancelled_work_items.
scenario!(a_worker_is_killed_while_tasks_behind_its_own_are_cancelled, {
    let pool = Pool::new(1).unwrap();
    for _ in 0..10 {
        let ((sender, pid), (_let_go, until)) = (pipe().unwrap(), pipe().unwrap());
        let held = pool.submit(occupy::call(sender, until));
        let victim = pid.recv().unwrap();
        let tasks: Vec<_> = (0..20).map(|number| pool.submit(double::call(number))).collect();
        tasks.iter().step_by(2).for_each(|task| assert!(task.cancel()));
        kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
        let error = held.join().unwrap_err();
        assert!(matches!(error, TaskError::Crashed { status: ExitStatus::Signal { signal: 9, .. }, .. }), "{error}");
        for (number, task) in (0..).zip(tasks) {
            assert_eq!(task.join(), if number % 2 == 0 { Err(TaskError::Cancelled) } else { Ok(number * 2) });
        }
    }
});

// pebble: test_process_pool_stop_stopped_callback.
scenario!(a_callback_ends_the_pool, {
    let pool = Arc::new(Pool::new(1).unwrap());
    let within = Arc::clone(&pool);
    pool.submit(double::call(1)).on_done(move |_| within.terminate());
    pool.submit(double::call(1)).join().ok();
    while pool.submit(double::call(1)).join() != Err(TaskError::PoolClosed) {}
    pool.join();
});

scenario!(a_callback_drops_the_last_handle_of_the_pool, {
    let (tell, told) = mpsc::channel();
    let pool = Arc::new(Pool::new(1).unwrap());
    let within = Arc::clone(&pool);
    let (end, until) = pipe::<()>().unwrap();
    let task = pool.submit(hold::call(until));
    task.on_done(move |_| {
        drop(within);
        tell.send(()).unwrap();
    });
    drop(pool);
    drop(end);
    told.recv_timeout(PATIENCE).unwrap();
});

/// Waits until it is let go.
#[process_fn]
fn hold(until: Receiver<()>) {
    assert!(until.iter().next().is_none());
}

#[process_fn]
fn pid(_index: usize) -> u32 {
    std::thread::sleep(Duration::from_millis(5));
    std::process::id()
}

#[process_fn]
fn kill(pid: u32) {
    // Somebody else may have killed it.
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
}

// loky: test_crash_races.
scenario!(workers_that_kill_each_other_cost_what_they_run, {
    for workers in [1, 2, 5, 13] {
        let pool = Pool::new(workers).unwrap();
        let mut pids = pool.map::<pid>(0..10 * workers).unwrap();
        pids.sort_unstable();
        pids.dedup();
        let results: Vec<_> = pool.imap::<kill>(pids.iter().rev().copied()).collect();
        assert_eq!(results.len(), pids.len());
        for result in results {
            assert!(matches!(result, Ok(()) | Err(TaskError::Crashed { attempts: 1, .. })), "{result:?}");
        }
        assert_eq!(pool.map::<double>(0..100).unwrap()[99], 198);
    }
});

// loky: test_imap_handle_iterable_exception.
scenario!(an_iterator_that_panics_ends_its_map_alone, {
    let pool = Pool::new(2).unwrap();
    for when in [0, 3, 500] {
        let items = || (0..1_000).inspect(move |item| assert!(*item != when, "somebody said when"));
        catch_unwind(AssertUnwindSafe(|| pool.map::<double>(items()))).unwrap_err();
        catch_unwind(AssertUnwindSafe(|| pool.imap::<double>(items()).count())).unwrap_err();
        catch_unwind(AssertUnwindSafe(|| pool.imap_unordered::<double>(items()).count())).unwrap_err();
        assert_eq!(pool.submit(double::call(21)).join(), Ok(42));
    }
});

// loky: test_queue_full_deadlock.
scenario!(many_tasks_that_cannot_be_encoded_hold_up_no_others, {
    let pool = Pool::new(1).unwrap();
    let failing: Vec<_> = (0..100).map(|_| pool.submit(refuse::call(Refuses))).collect();
    let others: Vec<_> = (0..100).map(|number| pool.submit(double::call(number))).collect();
    assert!(failing.into_iter().all(|task| matches!(task.join(), Err(TaskError::Encode(_)))));
    assert!(others.into_iter().enumerate().all(|(number, task)| task.join() == Ok(2 * number as u64)));
});

#[derive(Deserialize)]
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("it refuses"))
    }
}

#[process_fn]
fn refuse(_argument: Refuses) {}

/// Says that it runs, and does not end when it is asked to.
#[process_fn]
fn ignore_sigterm(running: Sender<u32>) {
    // SAFETY: to ignore a signal installs no handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    running.send(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

// pebble: test_process_pool_ignoring_sigterm; mpire: test_defunct_processes_kill_apply.
scenario!(a_task_that_ignores_sigterm_is_ended_all_the_same, {
    let pool = Pool::new(1).unwrap();
    let limit = Duration::from_millis(100);
    let (running, _started) = pipe().unwrap();
    let task = pool.submit_with(TaskOptions::new().timeout(limit), ignore_sigterm::call(running));
    assert!(matches!(task.join(), Err(TaskError::TimedOut { limit: passed, .. }) if passed == limit));
    let (running, started) = pipe().unwrap();
    let task = pool.submit(ignore_sigterm::call(running));
    started.recv().unwrap();
    pool.terminate();
    pool.join();
    assert_eq!(task.join(), Err(TaskError::PoolClosed));
});

#[process_fn]
fn never_ready(started: Sender<u32>) {
    started.send(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

// pebble's long_initializer; mpire: test_worker_init_timeout.
scenario!(a_pool_whose_initializer_never_returns_can_be_ended, {
    let (started, has_started) = pipe().unwrap();
    let pool = Pool::builder().workers(1).initializer(never_ready::call(started)).build().unwrap();
    has_started.recv().unwrap();
    let task = pool.submit(double::call(1));
    pool.terminate();
    pool.join();
    assert_eq!(task.join(), Err(TaskError::PoolClosed));
});

// pebble: test_process_pool_stop_large_data.
scenario!(a_pool_is_ended_while_much_is_on_its_way, {
    let pool = Pool::new(1).unwrap();
    let tasks: Vec<_> = (0..10).map(|_| pool.submit(length::call(&"a".repeat(10 << 20)))).collect();
    pool.terminate();
    pool.join();
    for task in tasks {
        assert!(matches!(task.join(), Ok(10_485_760) | Err(TaskError::PoolClosed)));
    }
});

#[process_fn]
fn length(text: &str) -> usize {
    text.len()
}
