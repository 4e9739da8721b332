//! `Semaphore` between threads and between processes, and with processes that are killed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::InShared;
use mp_core::{Process, process_fn};
use mp_sync::{Permit, ReleaseError, Semaphore};
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario, watched};

/// A semaphore, and what its permits stand for.
#[repr(C)]
struct Workshop {
    semaphore: Semaphore,
    other: Semaphore,
    inside: AtomicU32,
    done: AtomicU32,
    ready: AtomicU32,
}

impl Workshop {
    const fn new(semaphore: Semaphore, other: Semaphore) -> Self {
        let zero = AtomicU32::new;
        Self { semaphore, other, inside: zero(0), done: zero(0), ready: zero(0) }
    }

    /// Works with a permit, of which there are `most`.
    fn work(&self, most: u32) {
        assert!(self.inside.fetch_add(1, Ordering::Relaxed) < most);
        self.done.fetch_add(1, Ordering::Relaxed);
        assert!(self.inside.fetch_sub(1, Ordering::Relaxed) <= most);
    }
}

/// Whether there was a permit; it stays taken.
fn is_taken(permit: Option<Permit<'_>>) -> bool {
    permit.map(Permit::forget).is_some()
}

#[test]
fn it_works_in_a_static_between_threads() {
    static WORKSHOP: Workshop = Workshop::new(Semaphore::bounded(2), Semaphore::new(0));
    watched(|| {
        let worker = || {
            for _ in 0..300 {
                let permit = WORKSHOP.semaphore.acquire();
                WORKSHOP.work(2);
                drop(permit);
                assert!(is_taken(WORKSHOP.semaphore.acquire_timeout(PATIENCE)));
                WORKSHOP.work(2);
                WORKSHOP.semaphore.release(1).unwrap();
            }
        };
        let workers: Vec<_> = (0..4).map(|_| thread::spawn(worker)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(WORKSHOP.semaphore.value(), 2);
        assert_eq!(WORKSHOP.done.load(Ordering::Relaxed), 4 * 300 * 2);
    });
}

#[test]
fn releasing_too_many_is_an_error_that_changes_nothing() {
    let plain = Semaphore::new(u32::MAX - 1);
    assert_eq!(plain.release(2), Err(ReleaseError::Overflow));
    assert_eq!(plain.value(), u32::MAX - 1);
    plain.release(1).unwrap();
    assert_eq!(plain.release(u32::MAX), Err(ReleaseError::Overflow));
    plain.release(0).unwrap();
    assert_eq!(plain.value(), u32::MAX);

    let bounded = Semaphore::bounded(3);
    bounded.acquire().forget();
    assert_eq!(bounded.release(2), Err(ReleaseError::Bound { bound: 3 }));
    assert_eq!(bounded.release(u32::MAX), Err(ReleaseError::Bound { bound: 3 }));
    assert_eq!(bounded.value(), 2);
    bounded.release(1).unwrap();
    bounded.release(0).unwrap();
    assert_eq!(format!("{bounded:?}"), "Semaphore { value: 3, bound: 3 }");

    let none = Semaphore::bounded(0);
    assert_eq!(none.release(1), Err(ReleaseError::Bound { bound: 0 }));
    assert!(none.try_acquire().is_none());
    fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_error::<ReleaseError>();
}

#[test]
fn a_permit_comes_back_once_whatever_others_release() {
    let semaphore = Semaphore::bounded(1);
    let permit = semaphore.try_acquire().unwrap();
    assert!(semaphore.try_acquire().is_none());
    semaphore.release(1).unwrap();
    drop(permit);
    assert_eq!(semaphore.value(), 1);
    semaphore.acquire().forget();
    assert_eq!(semaphore.value(), 0);
    semaphore.release(1).unwrap();
    let result = std::panic::catch_unwind(|| {
        let _permit = semaphore.acquire_timeout(Duration::MAX).unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(result.is_err());
    assert_eq!(semaphore.value(), 1);
}

#[test]
fn a_permit_may_be_given_back_by_another_thread() {
    let semaphore = Semaphore::bounded(1);
    let permit = semaphore.acquire();
    thread::scope(|scope| scope.spawn(move || drop(permit)).join().unwrap());
    assert_eq!(semaphore.value(), 1);
}

#[test]
fn a_timeout_is_as_long_as_it_says() {
    watched(|| {
        let semaphore = Semaphore::new(0);
        for millis in [0, 1, 30, 230] {
            let timeout = Duration::from_millis(millis);
            let start = Instant::now();
            assert!(semaphore.acquire_timeout(timeout).is_none());
            assert!(start.elapsed() >= timeout, "{millis} ms");
        }
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            semaphore.release(1).unwrap();
            assert!(is_taken(semaphore.acquire_timeout(timeout)));
        }
    });
}

#[process_fn]
fn work_in_rounds(workshop: InShared<Workshop>, rounds: u32, most: u32) {
    for round in 0..rounds {
        match round % 3 {
            0 => workshop.semaphore.acquire().forget(),
            1 => assert!(is_taken(workshop.semaphore.acquire_timeout(PATIENCE))),
            _ => {
                while !is_taken(workshop.semaphore.try_acquire()) {
                    thread::yield_now();
                }
            }
        }
        workshop.work(most);
        workshop.semaphore.release(1).unwrap();
        let permit = match round % 3 {
            0 => Some(workshop.semaphore.acquire()),
            1 => workshop.semaphore.acquire_timeout(PATIENCE),
            _ => workshop.semaphore.try_acquire(),
        };
        if let Some(_permit) = permit {
            workshop.work(most);
        }
    }
}

scenario!(never_more_processes_go_on_than_there_are_permits, {
    for most in [1, 2] {
        let workshop = InShared::new(Workshop::new(Semaphore::bounded(most), Semaphore::new(0)));
        let start = |_| work_in_rounds::spawn(workshop.again(), 300, most).unwrap();
        let workers: Vec<_> = (0..4).map(start).collect();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(workshop.semaphore.value(), most);
        assert!(workshop.done.load(Ordering::Relaxed) >= 4 * 500);
    }
});

#[process_fn]
fn acquire_once(workshop: InShared<Workshop>, timeout: Option<Duration>) -> bool {
    workshop.ready.fetch_add(1, Ordering::Relaxed);
    match timeout {
        Some(timeout) => is_taken(workshop.semaphore.acquire_timeout(timeout)),
        None => is_taken(Some(workshop.semaphore.acquire())),
    }
}

fn waiters(workshop: &InShared<Workshop>, timeouts: &[Option<Duration>]) -> Vec<Process<bool>> {
    workshop.ready.store(0, Ordering::Relaxed);
    let start = |timeout: &Option<Duration>| acquire_once::spawn(workshop.again(), *timeout).unwrap();
    let waiters: Vec<_> = timeouts.iter().map(start).collect();
    eventually("all wait", || workshop.ready.load(Ordering::Relaxed) as usize == timeouts.len());
    eventually("all sleep", || waiters.iter().all(|waiter| sleeps_on_a_futex(waiter.pid())));
    waiters
}

scenario!(a_process_that_has_acquired_nothing_may_release_for_all_who_wait, {
    let workshop = InShared::new(Workshop::new(Semaphore::new(0), Semaphore::new(0)));
    let sleepers = waiters(&workshop, &[None, Some(PATIENCE), Some(Duration::MAX)]);
    workshop.semaphore.release(4).unwrap();
    for sleeper in sleepers {
        assert!(sleeper.join().unwrap());
    }
    assert_eq!(workshop.semaphore.value(), 1);
    assert!(is_taken(workshop.semaphore.try_acquire()));
    let late = acquire_once::spawn(workshop.again(), Some(Duration::from_millis(20))).unwrap();
    let zero = acquire_once::spawn(workshop.again(), Some(Duration::ZERO)).unwrap();
    assert!(!late.join().unwrap() && !zero.join().unwrap());
});

scenario!(a_waiter_that_is_killed_takes_no_permit_with_it, {
    let workshop = InShared::new(Workshop::new(Semaphore::new(0), Semaphore::new(0)));
    let [victim, other] = waiters(&workshop, &[None, None]).try_into().unwrap();
    victim.kill().unwrap();
    victim.join().unwrap_err();
    workshop.semaphore.release(1).unwrap();
    assert!(other.join().unwrap());
    // More releases than it takes to find out that nobody waits any more; then somebody does.
    for _ in 0..40 {
        workshop.semaphore.release(1).unwrap();
        assert!(is_taken(workshop.semaphore.try_acquire()));
    }
    let [after] = waiters(&workshop, &[None]).try_into().unwrap();
    workshop.semaphore.release(1).unwrap();
    assert!(after.join().unwrap());
    assert_eq!(workshop.semaphore.value(), 0);
});

#[process_fn]
fn keep(workshop: InShared<Workshop>) {
    let _permit = workshop.semaphore.acquire();
    workshop.ready.store(1, Ordering::Relaxed);
    loop {
        thread::park();
    }
}

scenario!(a_permit_of_the_dead_stays_taken_and_anybody_may_release_it, {
    let workshop = InShared::new(Workshop::new(Semaphore::bounded(1), Semaphore::new(0)));
    let victim = keep::spawn(workshop.again()).unwrap();
    eventually("it has the permit", || workshop.ready.load(Ordering::Relaxed) == 1);
    victim.kill().unwrap();
    victim.join().unwrap_err();
    assert!(workshop.semaphore.acquire_timeout(Duration::from_millis(150)).is_none());
    workshop.semaphore.release(1).unwrap();
    assert!(workshop.semaphore.acquire_timeout(PROMPTLY).is_some());
});

/// Carries permits from one semaphore to the other and back, for ever: there are never more than at
/// first.
#[process_fn]
fn carry(workshop: InShared<Workshop>) {
    workshop.ready.store(1, Ordering::Relaxed);
    for (from, to) in [(&workshop.semaphore, &workshop.other), (&workshop.other, &workshop.semaphore)].iter().cycle() {
        if is_taken(from.acquire_timeout(Duration::from_micros(100))) {
            to.release(1).unwrap();
        }
        drop(from.acquire());
    }
}

/// What the survivor is told in `done`. Any other number is an order to hold, which it repeats in
/// `inside`.
const GO_ON: u32 = 0;
const END: u32 = u32::MAX;

#[process_fn]
fn carry_on(workshop: InShared<Workshop>) {
    let both = [&workshop.semaphore, &workshop.other];
    for round in 0.. {
        match workshop.done.load(Ordering::Relaxed) {
            GO_ON => {}
            END => return,
            hold => {
                workshop.inside.store(hold, Ordering::Release);
                thread::yield_now();
                continue;
            }
        }
        if is_taken(both[round % 2].acquire_timeout(Duration::from_micros(200))) {
            both[(round + 1) % 2].release(1).unwrap();
        }
    }
}

scenario!(processes_that_are_killed_at_any_instant_lose_the_one_permit_that_they_have, limit(count(60)), {
    let mut random = Random::new();
    let workshop = InShared::new(Workshop::new(Semaphore::new(2), Semaphore::new(2)));
    let survivor = carry_on::spawn(workshop.again()).unwrap();
    let permits = || workshop.semaphore.value() + workshop.other.value();
    for round in 1..=count(60) as u32 {
        workshop.ready.store(0, Ordering::Relaxed);
        let victim = carry::spawn(workshop.again()).unwrap();
        eventually("it runs", || workshop.ready.load(Ordering::Relaxed) == 1);
        busy(random.moment(Duration::from_micros(300)));
        victim.kill().unwrap();
        victim.join().unwrap_err();
        // The survivor carries on, and brings a permit to where this process waits for one.
        for semaphore in [&workshop.semaphore, &workshop.other] {
            assert!(semaphore.acquire_timeout(PATIENCE).is_some(), "round {round}: {} permits are left", permits());
        }
        workshop.done.store(round, Ordering::Relaxed);
        eventually("the survivor holds", || workshop.inside.load(Ordering::Acquire) == round);
        // All are where anybody can take them, but for one that the victim may have had.
        let left = permits();
        assert!(left == 3 || left == 4, "round {round}: {left} of 4 permits are left");
        while is_taken(workshop.semaphore.try_acquire()) || is_taken(workshop.other.try_acquire()) {}
        assert_eq!(permits(), 0, "round {round}");
        workshop.semaphore.release(2).unwrap();
        workshop.other.release(2).unwrap();
        assert!(workshop.semaphore.acquire_timeout(PROMPTLY).is_some(), "round {round}");
        workshop.done.store(GO_ON, Ordering::Relaxed);
    }
    workshop.done.store(END, Ordering::Relaxed);
    survivor.join().unwrap();
});
