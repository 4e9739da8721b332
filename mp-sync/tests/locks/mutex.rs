//! `Mutex` and `ReentrantMutex` between processes, and what they do when those die.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::InShared;
use mp_core::{JoinError, process_fn};
use mp_sync::{LockError, Mutex, ReentrantMutex};
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::{PATIENCE, PROMPTLY, eventually, holds_within, scenario};

#[derive(Default)]
struct Account {
    mutex: Mutex<[u64; 2]>,
    reentrant: ReentrantMutex<Cell<u64>>,
    ready: AtomicU32,
}

type Shared = InShared<Account>;

fn account() -> Shared {
    InShared::new(Account::default())
}

/// Adds one to both, which are equal while nobody is in the middle of it.
fn add_one(values: &mut [u64; 2]) {
    assert_eq!(values[0], values[1]);
    for value in values {
        // SAFETY: it is a reference. Volatile, so that there is a middle.
        unsafe { (&raw mut *value).write_volatile(*value + 1) };
    }
}

#[process_fn]
fn adds(account: Shared, times: u64) {
    for _ in 0..times {
        add_one(&mut account.mutex.lock().unwrap());
        let reentrant = account.reentrant.lock().unwrap();
        let again = account.reentrant.lock().unwrap();
        again.set(reentrant.get() + 1);
    }
}

scenario!(processes_exclude_each_other, {
    let account = account();
    let children: Vec<_> = (0..4).map(|_| adds::spawn(account.again(), 5_000).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*account.mutex.lock().unwrap(), [20_000; 2]);
    assert_eq!(account.reentrant.lock().unwrap().get(), 20_000);
});

#[process_fn]
fn holds_until_killed(account: Shared) {
    let mut guard = account.mutex.lock().unwrap();
    guard[0] += 1;
    let _reentrant = account.reentrant.lock().unwrap();
    let _again = account.reentrant.lock().unwrap();
    account.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(the_poison_of_a_killed_owner_can_be_cleared_with_and_without_the_guard, {
    for with_guard in [false, true] {
        let account = account();
        let child = holds_until_killed::spawn(account.again()).unwrap();
        eventually("it holds both", || account.ready.load(Ordering::SeqCst) == 1);
        assert!(!account.mutex.is_poisoned() && !account.reentrant.is_poisoned());
        child.kill().unwrap();
        assert!(child.join().is_err());
        assert!(account.mutex.is_poisoned() && account.reentrant.is_poisoned());
        if with_guard {
            let Err(LockError::OwnerDied(guard)) = account.mutex.lock() else { panic!("nobody died") };
            let Err(LockError::OwnerDied(reentrant)) = account.reentrant.lock() else { panic!("nobody died") };
            assert!(account.mutex.is_poisoned() && account.reentrant.is_poisoned());
            account.mutex.clear_poison();
            account.reentrant.clear_poison();
            // They are held as before.
            assert!(account.mutex.is_locked() && account.reentrant.is_locked());
            drop((guard, reentrant));
        } else {
            account.mutex.clear_poison();
            account.reentrant.clear_poison();
        }
        assert!(!account.mutex.is_poisoned() && !account.reentrant.is_poisoned());
        assert!(!account.mutex.is_locked() && !account.reentrant.is_locked());
        assert!(account.mutex.lock().is_ok() && account.reentrant.lock().is_ok());
    }
});

scenario!(the_next_locker_is_told_of_a_killed_owner, {
    let account = account();
    let child = holds_until_killed::spawn(account.again()).unwrap();
    eventually("it holds both", || account.ready.load(Ordering::SeqCst) == 1);
    assert!(account.mutex.try_lock().unwrap().is_none());
    let begun = Instant::now();
    assert!(account.mutex.lock_timeout(Duration::from_millis(30)).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert!(account.mutex.is_locked() && account.reentrant.is_locked());
    child.kill().unwrap();
    assert!(child.join().is_err());

    let Err(LockError::OwnerDied(guard)) = account.mutex.lock() else { panic!("nobody died") };
    assert_eq!(*guard, [1, 0]);
    drop(guard);
    // It stays poisoned, for every way to take it.
    assert!(matches!(account.mutex.try_lock(), Err(LockError::OwnerDied(_))));
    let Err(LockError::OwnerDied(mut guard)) = account.mutex.lock_timeout(PATIENCE) else { panic!("it is in order") };
    guard[1] += 1;
    guard.mark_consistent();
    drop(guard);
    add_one(&mut account.mutex.lock().unwrap());

    let Err(LockError::OwnerDied(mut guard)) = account.reentrant.lock() else { panic!("nobody died") };
    guard.mark_consistent();
    drop(guard);
    // It was held twice by the dead, and is not now.
    drop(account.reentrant.lock().unwrap());
    assert!(!account.reentrant.is_locked());
});

scenario!(those_who_wait_are_told_at_once, {
    let account = account();
    let child = holds_until_killed::spawn(account.again()).unwrap();
    eventually("it holds both", || account.ready.load(Ordering::SeqCst) == 1);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| match account.mutex.lock() {
                    Err(LockError::OwnerDied(mut guard)) => {
                        guard.mark_consistent();
                        (Instant::now(), true)
                    }
                    _ => (Instant::now(), false),
                })
            })
            .collect();
        // Some of them are asleep by then, perhaps.
        thread::sleep(Duration::from_millis(10));
        let killed = Instant::now();
        child.kill().unwrap();
        let told: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        assert_eq!(told.iter().filter(|(_, died)| *died).count(), 1, "one is told, and mends it");
        assert!(told.iter().all(|(when, _)| when.duration_since(killed) < PROMPTLY));
    });
    assert!(child.join().is_err());
});

#[process_fn]
fn panics_with_the_lock(account: Shared) {
    let _outer = account.reentrant.lock().unwrap();
    let _guard = account.mutex.lock().unwrap();
    panic!("on purpose");
}

#[process_fn]
fn exits_with_the_lock(account: Shared) {
    let _guard = account.mutex.lock().unwrap();
    std::process::exit(0);
}

scenario!(a_panic_and_an_exit_are_deaths_too, {
    let account = account();
    let error = panics_with_the_lock::spawn(account.again()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Panicked(_)));
    for _ in 0..2 {
        assert!(matches!(account.mutex.lock(), Err(LockError::OwnerDied(_))));
        assert!(matches!(account.reentrant.lock(), Err(LockError::OwnerDied(_))));
    }
    account.mutex.lock().unwrap_err().into_guard().unwrap().mark_consistent();
    drop(account.mutex.lock().unwrap());
    exits_with_the_lock::spawn(account.again()).unwrap().join().unwrap();
    assert!(matches!(account.mutex.lock(), Err(LockError::OwnerDied(_))));
});

#[process_fn]
fn adds_for_ever(account: Shared) {
    loop {
        match account.mutex.lock() {
            Ok(mut guard) => add_one(&mut guard),
            Err(LockError::OwnerDied(mut guard)) => {
                guard[1] = guard[0];
                guard.mark_consistent();
            }
            Err(error) => panic!("{error}"),
        }
        let (Ok(mut reentrant) | Err(LockError::OwnerDied(mut reentrant))) = account.reentrant.lock() else {
            panic!("held")
        };
        reentrant.mark_consistent();
        let again = account.reentrant.lock().unwrap();
        again.set(reentrant.get() + 1);
        account.ready.fetch_add(1, Ordering::Relaxed);
    }
}

// Some are in the middle of a change when they are killed, some asleep, some just awake.
scenario!(owners_and_waiters_killed_at_any_instant_hold_nobody_up, limit(count(60)), {
    let account = account();
    let mut random = Random::new();
    let mut children: Vec<_> = (0..3).map(|_| adds_for_ever::spawn(account.again()).unwrap()).collect();
    let mut told = 0;
    for _ in 0..count(60) {
        busy(random.moment(Duration::from_millis(3)));
        let victim = random.below(3) as usize;
        let child = std::mem::replace(&mut children[victim], adds_for_ever::spawn(account.again()).unwrap());
        child.kill().unwrap();
        assert!(child.join().is_err());
        let before = account.ready.load(Ordering::Relaxed);
        assert!(holds_within(PATIENCE, || account.ready.load(Ordering::Relaxed) != before), "nobody goes on");
        match account.mutex.lock_timeout(PATIENCE) {
            Ok(Some(guard)) => assert_eq!(guard[0], guard[1]),
            Err(LockError::OwnerDied(mut guard)) => {
                told += 1;
                guard[1] = guard[0];
                guard.mark_consistent();
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{told} times the parent was told");
    for child in children {
        child.kill().unwrap();
        assert!(child.join().is_err());
    }
});

#[test]
fn a_thread_does_not_wait_for_itself() {
    static MUTEX: Mutex<u32> = Mutex::new(1);
    let guard = MUTEX.lock().unwrap();
    assert!(matches!(MUTEX.lock(), Err(LockError::Deadlock)));
    assert!(matches!(MUTEX.lock_timeout(PATIENCE), Err(LockError::Deadlock)));
    assert!(MUTEX.try_lock().unwrap().is_none());
    assert_eq!(format!("{MUTEX:?}"), "Mutex { value: <locked> }");
    drop(guard);
    assert_eq!(format!("{MUTEX:?}"), "Mutex { value: 1 }");
}

#[test]
fn a_time_out_is_exact_and_never_overflows() {
    static MUTEX: Mutex<()> = Mutex::new(());
    let guard = MUTEX.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(250)] {
                let begun = Instant::now();
                assert!(MUTEX.lock_timeout(time).unwrap().is_none());
                assert!(begun.elapsed() >= time && begun.elapsed() < time + PROMPTLY);
            }
        });
    });
    let waiter = thread::spawn(|| drop(MUTEX.lock_timeout(Duration::MAX).unwrap().unwrap()));
    thread::sleep(Duration::from_millis(5));
    drop(guard);
    waiter.join().unwrap();
}

#[test]
fn a_reentrant_mutex_belongs_to_a_thread() {
    static MUTEX: ReentrantMutex<Cell<u32>> = ReentrantMutex::new(Cell::new(0));
    let first = MUTEX.lock().unwrap();
    let second = MUTEX.try_lock().unwrap().unwrap();
    second.set(1);
    thread::spawn(|| assert!(MUTEX.try_lock().unwrap().is_none())).join().unwrap();
    drop(first);
    thread::spawn(|| assert!(MUTEX.try_lock().unwrap().is_none(), "one guard is left")).join().unwrap();
    drop(second);
    thread::spawn(|| assert_eq!(MUTEX.try_lock().unwrap().unwrap().get(), 1)).join().unwrap();
}
