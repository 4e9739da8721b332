//! Workers that die.

use std::collections::HashSet;
use std::time::Duration;

use mp_core::{ExitStatus, Receiver, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::{eventually, scenario};
use rustix::process::{Pid, Signal, kill_process};

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

#[process_fn]
fn pid() -> u32 {
    std::process::id()
}

#[process_fn]
fn crash_on(number: u32, bad: u32) -> u32 {
    if number == bad {
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

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Stops a worker, and returns when it does not run any more.
fn stop(worker: u32) {
    signal(worker, Signal::STOP);
    eventually("the worker stops", || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
    });
}

scenario!(a_killed_worker_fails_its_task_alone_and_is_replaced, {
    let pool = Pool::new(2).unwrap();
    let (running, started) = pipe().unwrap();
    let (_let_go, until) = pipe().unwrap();
    let victim = pool.submit(hold::call(running, until));
    let worker = started.recv().unwrap();
    let others: Vec<_> = (0..50).map(|number| pool.submit(double::call(number))).collect();
    signal(worker, Signal::KILL);
    let killed = ExitStatus::Signal { signal: 9, core_dumped: false };
    assert!(matches!(victim.join(), Err(TaskError::Crashed { status, attempts: 1, .. }) if status == killed));
    for (number, task) in (0..).zip(others) {
        assert_eq!(task.join().unwrap(), number * 2);
    }
    // Both places are filled again: two tasks that wait for each other's start are running at once.
    let (running, started) = pipe().unwrap();
    let (let_go, until) = pipe().unwrap();
    let both = [(); 2].map(|()| pool.submit(hold::call(running.try_clone().unwrap(), until.try_clone().unwrap())));
    let pids: HashSet<u32> = [started.recv().unwrap(), started.recv().unwrap()].into();
    assert_eq!(pids.len(), 2);
    assert!(!pids.contains(&worker));
    drop((let_go, until));
    for task in both {
        task.join().unwrap();
    }
});

scenario!(forty_good_tasks_survive_one_that_crashes, {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..41).map(|number| pool.submit(crash_on::call(number, 20))).collect();
    for (number, task) in (0..).zip(tasks) {
        match task.join() {
            Ok(value) => assert_eq!(value, number),
            Err(TaskError::Crashed { status: ExitStatus::Signal { signal: 6, .. }, attempts: 1, .. }) => {
                assert_eq!(number, 20);
            }
            Err(error) => panic!("task {number}: {error}"),
        }
    }
});

scenario!(a_task_that_exits_is_an_error_that_says_so, {
    #[process_fn]
    fn exit(code: i32) -> u8 {
        std::process::exit(code)
    }
    let pool = Pool::new(1).unwrap();
    for code in [0, 3] {
        let error = pool.submit(exit::call(code)).join().unwrap_err();
        let TaskError::Crashed { status, attempts: 1, .. } = error else { panic!("{error}") };
        assert_eq!(status, ExitStatus::Code(code));
    }
    assert_eq!(pool.submit(double::call(4)).join().unwrap(), 8);
});

scenario!(a_task_that_its_worker_never_looked_at_runs_elsewhere, {
    let pool = Pool::new(1).unwrap();
    for number in 0..20 {
        let worker = pool.submit(pid::call()).join().unwrap();
        // It is idle, and stays so: the task is sent to it but cannot be read.
        stop(worker);
        let task = pool.submit(double::call(number));
        signal(worker, Signal::KILL);
        assert_eq!(task.join().unwrap(), number * 2);
    }
});

scenario!(a_task_with_handles_is_not_run_twice, {
    #[process_fn]
    fn hand_over(sender: Sender<()>) {
        drop(sender);
    }
    let pool = Pool::new(1).unwrap();
    let worker = pool.submit(pid::call()).join().unwrap();
    stop(worker);
    let (sender, receiver) = pipe().unwrap();
    let task = pool.submit(hand_over::call(sender));
    signal(worker, Signal::KILL);
    let lost = task.join();
    assert!(matches!(lost, Err(TaskError::Crashed { attempts: 1, .. })), "{lost:?}");
    // Nothing keeps the handle open.
    assert!(receiver.iter().next().is_none());
});

scenario!(workers_killed_at_any_moment_cost_the_tasks_that_they_run, {
    let pool = Pool::new(2).unwrap();
    let (mut done, mut crashed, mut kills) = (0, 0, 0);
    for (index, result) in pool.imap_unordered::<double>(0..2_000) {
        match result {
            Ok(value) => {
                assert_eq!(value as usize, index * 2);
                done += 1;
            }
            Err(TaskError::Crashed { status: ExitStatus::Signal { signal: 9, .. }, attempts: 1, .. }) => crashed += 1,
            Err(error) => panic!("task {index}: {error}"),
        }
        if index % 50 == 0 {
            for child in mp_testing::start_method::children() {
                if kill_process(Pid::from_raw(child.pid as i32).unwrap(), Signal::KILL).is_ok() {
                    kills += 1;
                }
            }
        }
    }
    assert_eq!(done + crashed, 2_000);
    assert!(kills > 0 && crashed <= kills, "{crashed} tasks were lost to {kills} kills");
});

scenario!(a_worker_that_leaves_a_process_behind_with_its_descriptors_is_still_noticed, {
    #[process_fn]
    fn fork_and_die() {
        // The fork has every descriptor of the worker, so none of them is at its end when the
        // worker dies. SAFETY: the child only sleeps and exits.
        if unsafe { libc::fork() } == 0 {
            std::thread::sleep(Duration::from_secs(3));
            // SAFETY: it ends the fork without running anything that belongs to the worker.
            unsafe { libc::_exit(0) };
        }
        std::process::abort();
    }
    let pool = Pool::new(1).unwrap();
    let error = pool.submit(fork_and_die::call()).join().unwrap_err();
    assert!(matches!(error, TaskError::Crashed { status: ExitStatus::Signal { signal: 6, .. }, .. }), "{error}");
    assert_eq!(pool.submit(double::call(1)).join().unwrap(), 2);
    drop(pool);
    // What it left behind is not ours to end; it does so by itself.
    eventually("the fork ends", || mp_testing::start_method::others().is_empty());
});
