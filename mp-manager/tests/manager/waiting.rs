//! Objects that calls wait for: queues, locks, semaphores, events, conditions and barriers.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Call, Sender, process_fn};
use mp_manager::{
    Barrier, CallError, Cell, Condition, Event, Lock, LockError, LockGuard, Manager, Permit, Queue, Semaphore,
};
use mp_testing::faults::{Random, count, limit};
use mp_testing::victims::{Held, kill_at_random};
use mp_testing::{PATIENCE, PROMPTLY, eventually, holds_within, scenario};

fn stay(there: &Sender<()>) -> ! {
    there.send(()).unwrap();
    loop {
        thread::park();
    }
}

/// Whatever the last owner did, the lock.
fn taken(result: Result<LockGuard, LockError>) -> LockGuard {
    result.or_else(|error| error.into_guard().ok_or(())).unwrap()
}

scenario!(a_queue_is_first_in_first_out_and_bounded, {
    let manager = Manager::spawn().unwrap();
    let queue = Queue::<String>::bounded(&manager, 2).unwrap();
    queue.put("a".into()).unwrap();
    assert_eq!(queue.try_put("b".into()).unwrap(), Ok(()));
    assert_eq!(queue.try_put("c".into()).unwrap(), Err("c".to_owned()));
    assert_eq!(queue.put_timeout("c".into(), Duration::from_millis(10)).unwrap(), Err("c".to_owned()));
    let waits = thread::spawn({
        let queue = queue.clone();
        move || queue.put("c".into()).unwrap()
    });
    assert_eq!(queue.get().unwrap(), "a");
    waits.join().unwrap();
    assert_eq!(queue.len().unwrap(), 2);
    assert_eq!(queue.try_get().unwrap().as_deref(), Some("b"));
    assert_eq!(queue.get_timeout(PATIENCE).unwrap().as_deref(), Some("c"));
    assert_eq!(queue.try_get().unwrap(), None);
    let begun = Instant::now();
    assert_eq!(queue.get_timeout(Duration::from_millis(30)).unwrap(), None);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    let impatient = queue.clone().with_limit(Some(Duration::from_millis(10)));
    assert_eq!(impatient.get(), Err(CallError::TimedOut));
    // Nobody waits any longer, so nothing is lost.
    queue.put("d".into()).unwrap();
    assert_eq!(queue.get().unwrap(), "d");
});

#[process_fn]
fn take_and_stay(there: Sender<()>, queue: Queue<u64>) {
    queue.get().unwrap();
    stay(&there);
}

#[process_fn]
fn wait_for_a_value(there: Sender<()>, queue: Queue<u64>) {
    there.send(()).unwrap();
    queue.get().unwrap();
    stay(&there);
}

scenario!(a_value_is_lost_only_with_a_process_that_had_it, {
    let manager = Manager::spawn().unwrap();
    let queue = Queue::<u64>::new(&manager).unwrap();
    queue.put(1).unwrap();
    Held::start(|there| Call::<take_and_stay>::new((there, queue.clone()))).kill();
    queue.put(2).unwrap();
    assert_eq!(queue.get().unwrap(), 2);

    // One that is stopped while it waits gets the value and cannot acknowledge it.
    let waiter = Held::start(|there| Call::<wait_for_a_value>::new((there, queue.clone())));
    let number = mp_testing::procfs::number_of(waiter.pid());
    let sleeps = || mp_testing::procfs::Entry::read(waiter.pid()).is_some_and(|entry| entry.state == 'S');
    eventually("it waits", || sleeps() && !holds_within(Duration::from_millis(50), || !sleeps()));
    rustix::process::kill_process(number, rustix::process::Signal::STOP).unwrap();
    queue.put(3).unwrap();
    queue.put(4).unwrap();
    assert_eq!(queue.get().unwrap(), 4);
    waiter.kill();
    assert_eq!(queue.get_timeout(PROMPTLY).unwrap(), Some(3));
});

#[process_fn]
fn lock_and_stay(there: Sender<()>, lock: Lock) {
    let _guard = lock.lock().unwrap();
    stay(&there);
}

#[process_fn]
fn wait_for_the_lock(there: Sender<()>, lock: Lock) {
    there.send(()).unwrap();
    drop(lock.lock().unwrap());
    stay(&there);
}

// Python: a lock whose holder was killed stays locked for ever.
scenario!(a_lock_reports_that_its_owner_died, {
    let manager = Manager::spawn().unwrap();
    let lock = Lock::new(&manager).unwrap();
    let first = lock.lock().unwrap().token();
    let held = Held::start(|there| Call::<lock_and_stay>::new((there, lock.clone())));
    assert!(lock.try_lock().unwrap().is_none());
    assert!(lock.lock_timeout(Duration::from_millis(10)).unwrap().is_none());
    held.kill();
    let Err(LockError::OwnerDied(guard)) = lock.lock() else { panic!("its owner is dead") };
    assert!(guard.token() > first + 1);
    // Killed while it waits.
    Held::start(|there| Call::<wait_for_the_lock>::new((there, lock.clone()))).kill();
    drop(guard);
    // It may have got the lock before the server knew.
    drop(taken(lock.lock()));
    // The next one learns nothing any more.
    drop(lock.lock().unwrap());
});

scenario!(a_lock_excludes, {
    let manager = Manager::spawn().unwrap();
    let (lock, cell) = (Lock::new(&manager).unwrap(), Cell::new(&manager, 0_u64).unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _guard = lock.lock().unwrap();
                    cell.set(cell.get().unwrap() + 1).unwrap();
                }
            });
        }
    });
    assert_eq!(cell.get().unwrap(), 200);
});

#[process_fn]
fn acquire_and_stay(there: Sender<()>, semaphore: Semaphore) {
    let _permits = semaphore.acquire_many(2).unwrap();
    semaphore.acquire().unwrap().forget();
    stay(&there);
}

scenario!(permits_return_when_their_holder_dies, {
    let manager = Manager::spawn().unwrap();
    let semaphore = Semaphore::bounded(&manager, 3).unwrap();
    let held = Held::start(|there| Call::<acquire_and_stay>::new((there, semaphore.clone())));
    assert_eq!(semaphore.available().unwrap(), 0);
    assert!(semaphore.try_acquire().unwrap().is_none());
    assert!(semaphore.acquire_timeout(Duration::from_millis(10)).unwrap().is_none());
    held.kill();
    let permits: Vec<Permit> = (0..3).map(|_| semaphore.acquire().unwrap()).collect();
    assert_eq!(semaphore.available().unwrap(), 0);
    drop(permits);
    assert_eq!(semaphore.available().unwrap(), 3);
    assert_eq!(semaphore.release(1), Err(CallError::TooManyPermits));
    let unbounded = Semaphore::new(&manager, 0).unwrap();
    unbounded.release(2).unwrap();
    drop(unbounded.acquire_many(2).unwrap());
    assert_eq!(unbounded.available().unwrap(), 2);
});

#[process_fn]
fn wait_at(there: Sender<()>, barrier: Barrier) {
    there.send(()).unwrap();
    let _ = barrier.wait();
    stay(&there);
}

scenario!(a_barrier_hands_out_each_place_once_and_breaks, {
    let manager = Manager::spawn().unwrap();
    let barrier = Barrier::new(&manager, 3).unwrap();
    for _ in 0..3 {
        let mut places: Vec<_> = thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| barrier.wait().unwrap())).collect();
            waiting.into_iter().map(|waits| waits.join().unwrap()).collect()
        });
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2]);
    }
    assert_eq!(barrier.wait_timeout(Duration::from_millis(10)), Err(CallError::BrokenBarrier));
    assert_eq!(barrier.wait(), Err(CallError::BrokenBarrier));
    assert!(barrier.is_broken().unwrap());
    barrier.reset().unwrap();
    // A waiter dies.
    let held = Held::start(|there| Call::<wait_at>::new((there, barrier.clone())));
    eventually("it waits", || barrier.waiting().unwrap() == 1);
    let waits = thread::spawn({
        let barrier = barrier.clone();
        move || barrier.wait()
    });
    eventually("both wait", || barrier.waiting().unwrap() == 2);
    held.kill();
    assert_eq!(waits.join().unwrap(), Err(CallError::BrokenBarrier));
    barrier.reset().unwrap();
    let waits = thread::spawn({
        let barrier = barrier.clone();
        move || barrier.wait()
    });
    eventually("it waits", || barrier.waiting().unwrap() == 1);
    barrier.reset().unwrap();
    assert_eq!(waits.join().unwrap(), Err(CallError::BrokenBarrier));
    assert!(!barrier.is_broken().unwrap());
    barrier.abort().unwrap();
    assert_eq!(barrier.wait(), Err(CallError::BrokenBarrier));
});

scenario!(an_event_wakes_all_that_wait, {
    let manager = Manager::here().unwrap();
    let event = Event::new(&manager).unwrap();
    assert!(!event.wait_timeout(Duration::from_millis(5)).unwrap());
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| event.wait().unwrap())).collect();
        event.set().unwrap();
        waiting.into_iter().for_each(|waits| waits.join().unwrap());
    });
    assert!(event.is_set().unwrap() && event.wait_timeout(Duration::ZERO).unwrap());
    event.clear().unwrap();
    assert!(!event.wait_timeout(Duration::ZERO).unwrap());
});

#[process_fn]
fn sleep_on(there: Sender<()>, condition: Condition) {
    let guard = condition.lock().unwrap();
    there.send(()).unwrap();
    drop(condition.wait(guard).unwrap());
    stay(&there);
}

scenario!(a_condition_wakes_as_many_as_it_is_told, {
    let manager = Manager::spawn().unwrap();
    let (condition, state) = (Condition::new(&manager).unwrap(), Cell::new(&manager, 0_u32).unwrap());
    let guard = condition.lock().unwrap();
    let (guard, notified) = condition.wait_timeout(guard, Duration::from_millis(10)).unwrap();
    assert!(!notified);
    drop(guard);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut guard = condition.lock().unwrap();
                    state.set(state.get().unwrap() + 1).unwrap();
                    guard = condition.wait(guard).unwrap();
                    state.set(state.get().unwrap() - 1).unwrap();
                    drop(guard);
                })
            })
            .collect();
        eventually("all wait", || state.get().unwrap() == 3);
        // The lock is free, so all three are asleep.
        let guard = condition.lock().unwrap();
        condition.notify_n(&guard, 2).unwrap();
        assert_eq!(state.get().unwrap(), 3);
        drop(guard);
        eventually("two have gone on", || state.get().unwrap() == 1);
        let guard = condition.lock().unwrap();
        condition.notify_one(&guard).unwrap();
        drop(guard);
        waiting.into_iter().for_each(|waits| waits.join().unwrap());
    });
    // One that dies asleep takes no notification, once the server knows.
    let held = Held::start(|there| Call::<sleep_on>::new((there, condition.clone())));
    drop(taken(condition.lock()));
    held.kill();
    let waits = thread::spawn({
        let condition = condition.clone();
        move || {
            condition.wait_timeout(taken(condition.lock()), Duration::from_secs(20)).is_ok_and(|(_, notified)| notified)
        }
    });
    eventually("the notification arrives", || {
        let guard = taken(condition.lock());
        condition.notify_one(&guard).unwrap();
        drop(guard);
        waits.is_finished()
    });
    assert!(waits.join().unwrap());
    let other = Lock::new(&manager).unwrap().lock().unwrap();
    assert_eq!(condition.notify_all(&other), Err(CallError::NotHeld));
});

#[process_fn]
fn park_many(there: Sender<()>, queue: Queue<u64>, lock: Lock, event: Event) {
    thread::scope(|scope| {
        for number in 0..250 {
            let (queue, lock, event) = (queue.clone(), lock.clone(), event.clone());
            let waits = move || match number % 3 {
                0 => drop(queue.get()),
                1 => drop(lock.lock()),
                _ => drop(event.wait()),
            };
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, waits).unwrap();
        }
        there.send(()).unwrap();
    });
}

scenario!(a_thousand_calls_that_wait_hold_no_thread_and_go_with_their_processes, {
    let manager = Manager::spawn().unwrap();
    let (queue, event) = (Queue::new(&manager).unwrap(), Event::new(&manager).unwrap());
    let lock = Lock::new(&manager).unwrap();
    let guard = lock.lock().unwrap();
    let held: Vec<_> = (0..4)
        .map(|_| Held::start(|there| Call::<park_many>::new((there, queue.clone(), lock.clone(), event.clone()))))
        .collect();
    let threads = || fs::read_dir(format!("/proc/{}/task", manager.pid())).unwrap().count();
    assert!(threads() <= 2, "{} threads", threads());
    held.into_iter().for_each(Held::kill);
    // They have left: nobody takes what they waited for.
    queue.put(7).unwrap();
    assert_eq!(queue.get().unwrap(), 7);
    drop(guard);
    drop(taken(lock.lock()));
});

/// Uses all of them until it is killed.
#[process_fn]
fn use_all(seed: u64, all: (Lock, Semaphore, Queue<u64>, Condition), there: Sender<()>) {
    let (lock, semaphore, queue, condition) = all;
    let mut random = Random::seeded(seed);
    there.send(()).unwrap();
    loop {
        let guard = taken(lock.lock());
        let permit = semaphore.acquire_many(1 + random.below(2) as usize).unwrap();
        drop(guard);
        if let Some(value) = queue.get_timeout(random.moment(Duration::from_micros(500))).unwrap() {
            queue.put(value).unwrap();
        }
        drop(permit);
        let guard = taken(condition.lock());
        match random.below(2) {
            0 => condition.notify_one(&guard).unwrap(),
            _ => match condition.wait_timeout(guard, random.moment(Duration::from_micros(300))) {
                Ok((guard, _)) => drop(guard),
                Err(error) => drop(taken(Err(error))),
            },
        }
    }
}

scenario!(fault_clients_that_are_killed_wedge_nobody, limit(count(100)), {
    let manager = Manager::spawn().unwrap();
    let all = (
        Lock::new(&manager).unwrap(),
        Semaphore::bounded(&manager, 4).unwrap(),
        Queue::new(&manager).unwrap(),
        Condition::new(&manager).unwrap(),
    );
    let values = 2 * count(100);
    (0..values).for_each(|value| all.2.put(value).unwrap());
    let (lock, semaphore, queue, condition) = all.clone();
    let start = |seed, there| Call::<use_all>::new((seed, all.clone(), there));
    kill_at_random(
        3,
        count(100),
        start,
        |_| {},
        || {
            drop(taken(lock.lock()));
            drop(semaphore.acquire().unwrap());
            drop(taken(condition.lock()));
        },
    );
    drop(taken(lock.lock()));
    eventually("the permits return", || semaphore.available().unwrap() == 4);
    // Each victim had at most one value.
    let left: std::collections::BTreeSet<_> = std::iter::from_fn(|| queue.try_get().unwrap()).collect();
    assert!(left.len() as u64 >= values - count(100) - 3, "{} of {values}", left.len());
    assert_eq!(manager.objects().unwrap().len(), 4);
});

scenario!(the_death_of_the_server_ends_every_wait_at_once, {
    let manager = Manager::spawn().unwrap();
    let (queue, event) = (Queue::<u64>::new(&manager).unwrap(), Event::new(&manager).unwrap());
    let (lock, barrier) = (Lock::new(&manager).unwrap(), Barrier::new(&manager, 2).unwrap());
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| matches!(queue.get(), Err(CallError::Disconnected { .. }))),
            scope.spawn(|| matches!(event.wait(), Err(CallError::Disconnected { .. }))),
            scope.spawn(|| matches!(lock.lock(), Err(LockError::Call(CallError::Disconnected { .. })))),
            scope.spawn(|| matches!(barrier.wait(), Err(CallError::Disconnected { .. }))),
        ];
        eventually("one waits", || barrier.waiting().unwrap() == 1);
        let killed = Instant::now();
        rustix::process::kill_process(mp_testing::procfs::number_of(manager.pid()), rustix::process::Signal::KILL)
            .unwrap();
        assert!(waiting.into_iter().all(|waits| waits.join().unwrap()));
        assert!(killed.elapsed() < PROMPTLY);
    });
    drop(guard);
});
