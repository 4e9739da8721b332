//! Pools whose workers are copies of a fork server.

use std::sync::atomic::{AtomicU64, Ordering};

use mp_core::{ForkServer, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::{eventually, procfs, scenario};
use rustix::process::{Pid, Signal, kill_process};

static LOADED: AtomicU64 = AtomicU64::new(0);

#[process_fn]
fn load(number: u64) {
    LOADED.fetch_add(number, Ordering::Relaxed);
}

#[process_fn]
fn plus(number: u64) -> u64 {
    LOADED.load(Ordering::Relaxed) + number
}

/// Adds what a server of its own has loaded, which was executed and began with nothing.
#[process_fn]
fn by_a_pool_of_its_own(number: u64) -> Vec<u64> {
    let server = ForkServer::builder().preload(load::call(number)).build().unwrap();
    let pool = Pool::builder().workers(2).fork_server(&server).build().unwrap();
    pool.map::<plus>(0..3).unwrap()
}

#[process_fn]
fn waits_with_a_pool_of_its_own(pids: Sender<Vec<u32>>) {
    let server = ForkServer::builder().build().unwrap();
    let pool = Pool::builder().workers(2).fork_server(&server).build().unwrap();
    pool.map::<plus>(0..3).unwrap();
    pids.send(procfs::children(std::process::id()).into_iter().map(|child| child.pid).collect()).unwrap();
    loop {
        std::thread::park();
    }
}

fn warm_pool() -> Pool {
    let server = ForkServer::builder().preload(load::call(1000)).build().unwrap();
    Pool::builder().workers(2).fork_server(&server).build().unwrap()
}

scenario!(workers_have_what_the_server_has_loaded_and_so_do_those_that_replace_them, {
    #[process_fn]
    fn abort() {
        std::process::abort();
    }
    let pool = warm_pool();
    for _ in 0..5 {
        assert_eq!(pool.map::<plus>(0..100).unwrap(), (1000..1100).collect::<Vec<_>>());
        assert!(matches!(pool.submit(abort::call()).join(), Err(TaskError::Crashed { .. })));
    }
});

scenario!(a_task_has_a_fork_server_and_a_pool_of_its_own, {
    let pool = warm_pool();
    let tasks: Vec<_> = (0..4).map(|number| pool.submit(by_a_pool_of_its_own::call(number))).collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.join().unwrap(), [number, number + 1, number + 2]);
    }
});

scenario!(the_server_and_the_pool_of_a_task_end_with_its_worker, {
    let pool = warm_pool();
    for kills_server in [false, true] {
        let (sender, pids) = pipe().unwrap();
        let task = pool.submit(waits_with_a_pool_of_its_own::call(sender));
        let pids = pids.recv().unwrap();
        assert!(!pids.is_empty());
        if kills_server {
            // The workers of the task's pool go on until the task ends.
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        assert!(task.cancel());
        assert_eq!(task.join(), Err(TaskError::Cancelled));
        let is_gone = |pid: &u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        eventually("all of them are gone", || pids.iter().all(is_gone));
    }
    assert_eq!(pool.submit(plus::call(1)).join(), Ok(1001));
});
