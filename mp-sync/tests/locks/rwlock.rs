//! Readers and writers in several processes, and what is left when they die.

use std::thread;
use std::time::Duration;

use crate::memory::InShared;
use mp_core::{Builder, Receiver, Sender, pipe, process_fn};
use mp_sync::{LockError, RwLock, RwLockWriteGuard};
use mp_testing::faults::{Random, count, limit};
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, eventually, scenario};

/// In order, all are equal.
type Value = [u64; 8];
type Lock = RwLock<Value, 4>;

fn lock() -> InShared<Lock> {
    InShared::new(Lock::with_readers([0; 8]))
}

fn for_ever() {
    loop {
        thread::park();
    }
}

fn is_in_order(value: &Value) -> bool {
    value.iter().all(|other| *other == value[0])
}

fn increment(value: &mut Value) {
    value.iter_mut().for_each(|value| *value += 1);
}

#[process_fn]
fn read_for_ever(memory: InShared<Lock>, there: Sender<()>) {
    let lock = &*memory;
    let _guard = lock.read().unwrap();
    there.send(()).unwrap();
    for_ever();
}

/// Leaves the value in the middle of a change.
#[process_fn]
fn write_for_ever(memory: InShared<Lock>, there: Sender<()>) {
    let lock = &*memory;
    let mut guard = lock.write().unwrap();
    guard[0] += 1;
    there.send(()).unwrap();
    for_ever();
}

#[process_fn]
fn wait_to_write(memory: InShared<Lock>, there: Sender<()>) {
    there.send(()).unwrap();
    drop(memory.write());
    for_ever();
}

#[process_fn]
fn wait_to_read(memory: InShared<Lock>, there: Sender<()>) {
    there.send(()).unwrap();
    drop(memory.read());
    for_ever();
}

/// Says how a wait ended: whether what it got was in order.
#[process_fn]
fn read(memory: InShared<Lock>, waits: Sender<()>, got: Sender<bool>) {
    waits.send(()).unwrap();
    let lock = &*memory;
    got.send(lock.read_timeout(PATIENCE).map(|guard| drop(guard.unwrap())).is_ok()).unwrap();
}

#[process_fn]
fn write(memory: InShared<Lock>, waits: Sender<()>, got: Sender<bool>) {
    waits.send(()).unwrap();
    let lock = &*memory;
    got.send(lock.write_timeout(PATIENCE).map(|guard| drop(guard.unwrap())).is_ok()).unwrap();
}

/// Waits until a child sleeps over the lock.
fn sleeps(child: u32) {
    eventually("the child sleeps over the lock", || {
        let call = std::fs::read_to_string(format!("/proc/{child}/syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        number == Some(libc::SYS_futex) || number == Some(libc::SYS_futex_waitv)
    });
}

scenario!(a_dead_reader_holds_no_writer_up, {
    let memory = lock();
    let lock = &*memory;
    let reader = Held::start(|there| read_for_ever::call(memory.again(), there));
    assert!(lock.try_write().unwrap().is_none() && lock.try_read().unwrap().is_some());
    let ((waits, waiting), (got, result)) = (pipe().unwrap(), pipe().unwrap());
    let writer = Builder::new().spawn(write::call(memory.again(), waits, got)).unwrap();
    soon(&waiting);
    eventually("the writer has the turn", || lock.try_read().unwrap().is_none());
    reader.kill();
    assert!(soon(&result), "a reader leaves the value in order");
    writer.join().unwrap();
    assert!(lock.try_write().unwrap().is_some());
});

scenario!(a_dead_reader_leaves_its_slot_to_one_that_waits, {
    let memory = lock();
    let lock = &*memory;
    let mut readers: Vec<_> = (0..4).map(|_| Held::start(|there| read_for_ever::call(memory.again(), there))).collect();
    assert!(lock.try_read().unwrap().is_none());
    let ((waits, waiting), (got, result)) = (pipe().unwrap(), pipe().unwrap());
    let reader = Builder::new().spawn(read::call(memory.again(), waits, got)).unwrap();
    soon(&waiting);
    sleeps(reader.pid());
    readers.remove(2).kill();
    assert!(soon(&result));
    reader.join().unwrap();
    readers.into_iter().for_each(Held::kill);
    assert!(lock.try_write().unwrap().is_some());
});

scenario!(the_poison_of_a_dead_writer_can_be_cleared_but_not_by_one_that_reads, {
    let memory = lock();
    let lock = &*memory;
    for with_guard in [false, true] {
        assert!(!lock.is_poisoned());
        Held::start(|there| write_for_ever::call(memory.again(), there)).kill();
        assert!(lock.is_poisoned());
        let Err(LockError::OwnerDied(reading)) = lock.read() else { panic!("nobody died") };
        lock.clear_poison();
        drop(reading);
        assert!(lock.is_poisoned());
        if with_guard {
            let Err(LockError::OwnerDied(mut guard)) = lock.write() else { panic!("nobody died") };
            guard[0] = 0;
            lock.clear_poison();
            assert!(lock.try_read().unwrap().is_none());
        } else {
            lock.clear_poison();
        }
        assert!(!lock.is_poisoned());
        assert!(lock.read().is_ok() && lock.write().is_ok());
    }
});

scenario!(all_are_told_of_a_dead_writer_until_the_value_is_mended, {
    let memory = lock();
    let lock = &*memory;
    let dies = Held::start(|there| write_for_ever::call(memory.again(), there));
    assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
    let (waits, waiting): (Sender<()>, Receiver<()>) = pipe().unwrap();
    let (got, result) = pipe().unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            Builder::new()
                .spawn(read::call(memory.again(), waits.try_clone().unwrap(), got.try_clone().unwrap()))
                .unwrap()
        })
        .collect();
    let writer = Builder::new().spawn(write::call(memory.again(), waits, got)).unwrap();
    (0..4).for_each(|_| soon(&waiting));
    sleeps(writer.pid());
    readers.iter().for_each(|reader| sleeps(reader.pid()));
    dies.kill();
    (0..4).for_each(|_| assert!(!soon(&result)));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    writer.join().unwrap();
    let Err(LockError::OwnerDied(guard)) = lock.try_read() else { panic!("it was not mended") };
    assert!(!is_in_order(&guard));
    drop(guard);
    let Err(LockError::OwnerDied(mut guard)) = lock.try_write() else { panic!("it was not mended") };
    guard[0] = 0;
    guard.mark_consistent();
    let guard = RwLockWriteGuard::downgrade(guard);
    assert!(lock.try_read().unwrap().is_some() && is_in_order(&guard));
});

scenario!(one_that_dies_waiting_holds_nobody_up, {
    let memory = lock();
    let lock = &*memory;
    // With the turn, and behind it.
    let guard = lock.read().unwrap();
    let first = Held::start(|there| wait_to_write::call(memory.again(), there));
    sleeps(first.pid());
    let second = Held::start(|there| wait_to_write::call(memory.again(), there));
    let third = Held::start(|there| wait_to_read::call(memory.again(), there));
    sleeps(second.pid());
    sleeps(third.pid());
    second.kill();
    third.kill();
    first.kill();
    let other = || drop(lock.read_timeout(PATIENCE).expect("nobody has written").expect("nobody waits"));
    thread::scope(|scope| scope.spawn(other).join().unwrap());
    drop(guard);
    assert!(lock.write_timeout(PATIENCE).expect("nobody has written").is_some());
});

#[process_fn]
fn read_and_write(memory: InShared<Lock>, seed: u64, there: Sender<()>) {
    let lock = &*memory;
    let mut random = Random::seeded(seed);
    there.send(()).unwrap();
    loop {
        match random.below(4) {
            0 => change(lock),
            1 => {
                if let Some(first) = look(lock) {
                    assert_eq!(*look(lock).expect("nobody has written"), *first);
                }
            }
            _ => drop(look(lock)),
        }
    }
}

/// Looks at the value, which is in order unless somebody died. (The guard of one that is not is of
/// no use here.)
fn look(lock: &Lock) -> Option<mp_sync::RwLockReadGuard<'_, Value, 4>> {
    match lock.read_timeout(PATIENCE) {
        Ok(guard) => {
            let guard = guard.expect("nobody holds it for long");
            assert!(is_in_order(&guard));
            Some(guard)
        }
        Err(LockError::OwnerDied(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

fn change(lock: &Lock) {
    match lock.write_timeout(PATIENCE) {
        Ok(guard) => {
            let mut guard = guard.expect("nobody holds it for long");
            assert!(is_in_order(&guard));
            increment(&mut guard);
        }
        Err(LockError::OwnerDied(mut guard)) => {
            let most = *guard.iter().max().unwrap();
            guard.fill(most);
            guard.mark_consistent();
        }
        Err(error) => panic!("{error}"),
    }
}

const KILLED: u64 = 60;

scenario!(readers_and_writers_that_are_killed_at_any_instant_leave_the_lock_usable, limit(count(KILLED)), {
    let memory = lock();
    let lock = &*memory;
    let start = |seed, there| read_and_write::call(memory.again(), seed, there);
    let mut last = 0;
    kill_at_random(
        3,
        count(KILLED),
        start,
        |_| (),
        || {
            change(lock);
            if let Some(value) = look(lock) {
                assert!(value[0] >= last);
                last = value[0];
            }
        },
    );
    // Nobody is left but this process.
    let guard = lock.write_timeout(Duration::ZERO);
    assert!(guard.is_ok_and(|guard| guard.is_some_and(|value| is_in_order(&value))));
    assert!(last > 0);
});
