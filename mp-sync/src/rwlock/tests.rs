use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn readers_come_in_together_and_a_writer_alone() {
    let lock = RwLock::new(1);
    let (first, second) = (lock.read().unwrap(), lock.read().unwrap());
    assert_eq!(*first + *second, 2);
    let other = || {
        assert_eq!(lock.try_read().unwrap().as_deref(), Some(&1));
        assert!(lock.try_write().unwrap().is_none());
        let begun = Instant::now();
        assert!(lock.write_timeout(SHORT).unwrap().is_none() && begun.elapsed() >= SHORT);
        assert!(lock.write_timeout(Duration::ZERO).unwrap().is_none());
        assert_eq!(*lock.read_timeout(Duration::MAX).unwrap().unwrap(), 1, "it is open again");
    };
    thread::scope(|scope| scope.spawn(other).join().unwrap());
    drop((first, second));
    let guard = lock.write().unwrap();
    let other = || {
        assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
        let begun = Instant::now();
        assert!(lock.read_timeout(SHORT).unwrap().is_none() && begun.elapsed() >= SHORT);
        assert!(lock.read_timeout(Duration::ZERO).unwrap().is_none());
    };
    thread::scope(|scope| scope.spawn(other).join().unwrap());
    assert_eq!(format!("{lock:?}"), "RwLock { value: <locked> }");
    drop(guard);
    assert_eq!(format!("{lock:?}"), "RwLock { value: 1 }");
}

#[test]
fn nobody_waits_for_itself() {
    let lock = RwLock::new(());
    let reads = lock.read().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.write_timeout(LONG), Err(LockError::Deadlock)));
    assert!(lock.try_write().unwrap().is_none());
    drop(reads);
    let writes = lock.write().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.read(), Err(LockError::Deadlock)));
    assert!(lock.try_read().unwrap().is_none());
    drop(writes);
    drop(lock.write().unwrap());
}

#[test]
fn a_reader_is_refused_while_a_writer_waits_for_it() {
    let lock = RwLock::new(0);
    thread::scope(|scope| {
        let reads = lock.read().unwrap();
        scope.spawn(|| *lock.write().unwrap() += 1);
        // Until the writer has the turn.
        while thread::scope(|scope| scope.spawn(|| lock.try_read().unwrap().is_some()).join().unwrap()) {
            thread::yield_now();
        }
        let begun = Instant::now();
        assert!(matches!(lock.write_timeout(LONG), Err(LockError::Deadlock)));
        assert!(lock.try_write().unwrap().is_none() && begun.elapsed() < LONG);
        drop(reads);
    });
    assert_eq!(*lock.write().unwrap(), 1);
}

#[test]
fn a_reader_reads_again_while_a_writer_waits() {
    let lock = RwLock::new(0);
    thread::scope(|scope| {
        let first = lock.read().unwrap();
        scope.spawn(|| *lock.write().unwrap() += 1);
        // Until the writer has the turn.
        while thread::scope(|scope| scope.spawn(|| lock.try_read().unwrap().is_some()).join().unwrap()) {
            thread::yield_now();
        }
        let second = lock.read_timeout(LONG).unwrap().expect("it is in already");
        drop(first);
        assert_eq!(*second, 0);
        assert_eq!(*lock.try_read().unwrap().expect("it is still in"), 0);
    });
    assert_eq!(*lock.read().unwrap(), 1);
}

#[test]
fn more_readers_than_slots_wait_for_one() {
    let lock = RwLock::<u32, 4>::with_readers(7);
    let (leave, left) = mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let (entered, enter) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..4 {
            let (lock, left, entered) = (&lock, &left, entered.clone());
            scope.spawn(move || {
                let guard = lock.read().unwrap();
                entered.send(()).unwrap();
                left.lock().unwrap().recv().unwrap();
                assert_eq!(*guard, 7);
            });
        }
        (0..4).for_each(|_| enter.recv().unwrap());
        assert!(lock.try_read().unwrap().is_none());
        assert!(lock.read_timeout(SHORT).unwrap().is_none());
        let fifth = scope.spawn(|| *lock.read_timeout(LONG).unwrap().expect("a slot becomes free"));
        leave.send(()).unwrap();
        assert_eq!(fifth.join().unwrap(), 7);
        (0..3).for_each(|_| leave.send(()).unwrap());
    });
    assert!(lock.try_write().unwrap().is_some());
}

#[test]
fn a_writer_that_panics_poisons_and_a_reader_does_not() {
    let lock = RwLock::new(0);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.read().unwrap();
        panic!("on purpose");
    }));
    let _ = catch_unwind(AssertUnwindSafe(|| {
        *lock.write().unwrap() = 1;
        let _guard = lock.write().unwrap();
        panic!("on purpose");
    }));
    let Err(LockError::OwnerDied(guard)) = lock.read() else { panic!("it is poisoned") };
    assert_eq!(*guard, 1);
    drop(guard);
    let Err(LockError::OwnerDied(guard)) = lock.write() else { panic!("it stays poisoned") };
    drop(RwLockWriteGuard::downgrade(guard));
    assert_eq!(format!("{lock:?}"), "RwLock { owner_died: true, value: 1 }");
    let Err(LockError::OwnerDied(mut guard)) = lock.try_write() else { panic!("it stays poisoned") };
    guard.mark_consistent();
    drop(guard);
    assert_eq!(*lock.read().unwrap(), 1);
    assert_eq!(lock.into_inner(), 1);
}

#[test]
fn a_writer_becomes_a_reader() {
    let mut lock = RwLock::new(0);
    thread::scope(|scope| {
        let mut guard = lock.write().unwrap();
        let writer = scope.spawn(|| *lock.write().unwrap() *= 10);
        *guard += 1;
        let guard = RwLockWriteGuard::downgrade(guard);
        assert_eq!(*guard, 1);
        assert!(!writer.is_finished() && *guard == 1);
        drop(guard);
    });
    assert_eq!(*lock.get_mut(), 10);
}

#[test]
fn threads_that_read_and_write_see_whole_values() {
    let lock = RwLock::<[u64; 8], 4>::default();
    thread::scope(|scope| {
        for number in 0..6 {
            let lock = &lock;
            scope.spawn(move || {
                for round in 0..2_000_u64 {
                    if (round + number) % 8 == 0 {
                        lock.write().unwrap().iter_mut().for_each(|value| *value += 1);
                    } else {
                        let value = lock.read().unwrap();
                        assert!(value.iter().all(|other| *other == value[0]));
                    }
                }
            });
        }
    });
    assert_eq!(lock.into_inner(), [6 * 2_000 / 8; 8]);
}
