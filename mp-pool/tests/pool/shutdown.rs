//! How pools end.

use std::cell::RefCell;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Builder, Receiver, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::{PROMPTLY, leaks::timed, scenario};

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

/// Says that it runs, and never ends.
#[process_fn]
fn hang(running: Sender<()>) {
    running.send(()).unwrap();
    loop {
        thread::park();
    }
}

scenario!(dropping_a_pool_ends_idle_and_busy_workers, {
    let pool = Pool::new(3).unwrap();
    let (running, started) = pipe().unwrap();
    let busy = pool.submit(hang::call(running));
    started.recv().unwrap();
    let ((), took) = timed(|| drop(pool));
    assert!(took < PROMPTLY, "it took {took:?}");
    assert_eq!(busy.join(), Err(TaskError::PoolClosed));
    assert!(mp_testing::start_method::children().is_empty());
});

scenario!(dropping_a_pool_fails_what_was_waiting, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let busy = pool.submit(hang::call(running));
    let waiting: Vec<_> = (0..100).map(|number| pool.submit(double::call(number))).collect();
    started.recv().unwrap();
    drop(pool);
    assert_eq!(busy.join(), Err(TaskError::PoolClosed));
    for task in waiting {
        assert_eq!(task.join(), Err(TaskError::PoolClosed));
    }
});

scenario!(a_pool_can_be_dropped_before_its_workers_have_started, {
    for _ in 0..20 {
        let pool = Pool::new(4).unwrap();
        let task = pool.submit(double::call(1));
        drop(pool);
        assert!(matches!(task.join(), Ok(2) | Err(TaskError::PoolClosed)));
    }
});

scenario!(close_and_join_let_the_tasks_be_done_first, {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..200).map(|number| pool.submit(double::call(number))).collect();
    pool.close();
    let late = pool.submit(double::call(1));
    assert_eq!(late.join(), Err(TaskError::PoolClosed));
    pool.join();
    assert!(mp_testing::start_method::children().is_empty());
    for (number, task) in (0..).zip(tasks) {
        assert!(task.is_done());
        assert_eq!(task.join().unwrap(), number * 2);
    }
    // A pool that nobody closed is closed by waiting for it.
    let open = Pool::new(1).unwrap();
    let task = open.submit(double::call(4));
    open.join();
    assert_eq!(task.join().unwrap(), 8);
    // Ending what has ended does nothing.
    pool.close();
    pool.terminate();
    pool.join();
});

scenario!(a_worker_that_crashes_after_close_is_replaced_for_what_is_left, {
    #[process_fn]
    fn crash() {
        std::process::abort();
    }
    let pool = Pool::new(1).unwrap();
    let first = pool.submit(crash::call());
    let rest: Vec<_> = (0..10).map(|number| pool.submit(double::call(number))).collect();
    pool.close();
    pool.join();
    assert!(matches!(first.join(), Err(TaskError::Crashed { .. })));
    for (number, task) in (0..).zip(rest) {
        assert_eq!(task.join().unwrap(), number * 2);
    }
});

scenario!(terminate_ends_a_task_that_hangs, {
    let pool = Pool::new(2).unwrap();
    let (running, started) = pipe().unwrap();
    let busy = pool.submit(hang::call(running));
    started.recv().unwrap();
    pool.terminate();
    pool.join();
    assert_eq!(busy.join(), Err(TaskError::PoolClosed));
    assert!(mp_testing::start_method::children().is_empty());
});

scenario!(workers_die_with_the_process_that_has_the_pool, {
    #[process_fn]
    fn have_a_pool(ready: Sender<()>) {
        let pool = Pool::new(3).unwrap();
        let (running, started) = pipe().unwrap();
        let tasks: Vec<_> = (0..2).map(|_| pool.submit(hang::call(running.try_clone().unwrap()))).collect();
        started.recv().unwrap();
        started.recv().unwrap();
        ready.send(()).unwrap();
        drop(tasks);
        pool.join();
    }
    let (ready, is_ready) = pipe().unwrap();
    let owner = Builder::new().spawn(have_a_pool::call(ready)).unwrap();
    is_ready.recv().unwrap();
    let workers = mp_testing::procfs::children(owner.pid());
    assert_eq!(workers.len(), 3);
    owner.kill().unwrap();
    owner.join().unwrap_err();
    assert!(mp_testing::holds_within(PROMPTLY, || {
        let alive = mp_testing::procfs::session(std::process::id());
        workers.iter().all(|worker| alive.iter().all(|process| process.pid != worker.pid))
    }));
});

scenario!(sixty_four_busy_workers_die_with_their_parent, {
    #[process_fn]
    fn have_many_workers(ready: Sender<()>) {
        let pool = Pool::new(64).unwrap();
        let (running, started) = pipe().unwrap();
        let tasks: Vec<_> = (0..64).map(|_| pool.submit(hang::call(running.try_clone().unwrap()))).collect();
        for _ in &tasks {
            started.recv().unwrap();
        }
        ready.send(()).unwrap();
        pool.join();
    }
    let (ready, is_ready) = pipe().unwrap();
    let owner = Builder::new().spawn(have_many_workers::call(ready)).unwrap();
    is_ready.recv().unwrap();
    let workers = mp_testing::procfs::children(owner.pid());
    assert_eq!(workers.len(), 64);
    owner.kill().unwrap();
    owner.join().unwrap_err();
    mp_testing::eventually("all of them are gone", || {
        let alive = mp_testing::procfs::session(std::process::id());
        workers.iter().all(|worker| alive.iter().all(|process| process.pid != worker.pid))
    });
});

scenario!(a_worker_that_will_not_exit_is_killed_after_a_while, {
    #[process_fn]
    fn hang_at_exit() {
        extern "C" fn hang() {
            loop {
                // SAFETY: it waits for a signal, and touches nothing that exiting has taken apart.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: `hang` is a function that may run at exit.
        assert_eq!(unsafe { libc::atexit(hang) }, 0);
    }
    #[process_fn]
    fn until_closed(until: Receiver<()>) {
        assert!(until.iter().next().is_none());
    }
    let pool = Pool::new(1).unwrap();
    pool.submit(hang_at_exit::call()).join().unwrap();
    let (sender, receiver) = pipe().unwrap();
    let task = pool.submit(until_closed::call(receiver));
    pool.close();
    drop(sender);
    task.join().unwrap();
    let ((), took) = timed(|| pool.join());
    assert!(took >= Duration::from_millis(500), "it was killed at once, after {took:?}");
});

/// Takes long enough for the thread that submitted it to look for the result, and not so long that
/// it sleeps.
#[process_fn]
fn brief() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(15) {}
}

scenario!(a_closed_pool_ends_whoever_saw_its_last_result, {
    for _ in 0..100 {
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.submit(brief::call()).join(), Ok(()));
        let last = pool.submit(brief::call());
        pool.close();
        // This thread looks for the result before it sleeps.
        assert_eq!(last.join(), Ok(()));
        pool.join();
    }
});

/// Uses a pool when it is dropped, makes and drops one, and reports.
struct UsesPools(Arc<Pool>, mpsc::Sender<Option<u32>>);

impl UsesPools {
    fn use_all(&self) -> Option<u32> {
        let own = Pool::new(1).ok()?;
        let waits = own.submit(double::call(1));
        let results = self.0.map::<double>([1, 2, 3]).ok()?;
        drop(own);
        drop(waits);
        Some(results.iter().sum::<u32>() + self.0.submit(double::call(4)).join().ok()?)
    }
}

impl Drop for UsesPools {
    fn drop(&mut self) {
        let _ = self.1.send(self.use_all());
    }
}

thread_local! {
    static BEFORE: RefCell<Option<UsesPools>> = const { RefCell::new(None) };
    static AFTER: RefCell<Option<UsesPools>> = const { RefCell::new(None) };
}

// The thread's own variables are dropped in any order: before those of the library, and after them.
scenario!(destructors_of_a_thread_can_use_pools_and_drop_them, {
    let pool = Arc::new(Pool::new(2).unwrap());
    let (report, reports) = mpsc::channel();
    let (first, second) = (UsesPools(pool.clone(), report.clone()), UsesPools(pool, report));
    thread::spawn(move || {
        BEFORE.set(Some(first));
        AFTER.with_borrow_mut(|after| {
            second.use_all().unwrap();
            *after = Some(second);
        });
    })
    .join()
    .unwrap();
    assert_eq!(reports.iter().collect::<Vec<_>>(), [Some(20), Some(20)]);
});
