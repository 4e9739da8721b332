//! `Value` between processes, sent in every way, and what it does when those who use it die.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{JoinError, Receiver, Sender, duplex, pipe, process_fn};
use mp_shm::{Array, ShmSafe, Value};
use mp_sync::LockError;
use mp_testing::faults::{count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use serde::{Deserialize, Serialize};

#[process_fn]
fn adds(value: Value<u64>, times: u64) {
    for _ in 0..times {
        value.update(|value| *value += 1).unwrap();
    }
}

scenario!(no_update_is_lost, {
    let value = Value::new(7_u64).unwrap();
    let children: Vec<_> = (0..4).map(|_| adds::spawn(value.clone(), 5_000).unwrap()).collect();
    adds(value.clone(), 5_000);
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(value.get().unwrap(), 25_007);
});

#[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
struct Reading {
    sensor: u16,
    celsius: Option<f32>,
    history: [(u8, bool); 3],
}

const READING: Reading = Reading { sensor: 3, celsius: Some(-1.5), history: [(1, true), (2, false), (3, true)] };

/// Everything that values can be in.
#[derive(Serialize, Deserialize)]
struct Parcel {
    one: Value<Reading>,
    maybe: Option<Value<u64>>,
    many: Vec<Value<u64>>,
    named: BTreeMap<String, Value<u64>>,
}

#[process_fn]
fn unpacks(parcel: Parcel) -> Parcel {
    parcel.one.update(|reading| reading.celsius = None).unwrap();
    for value in parcel.maybe.iter().chain(&parcel.many).chain(parcel.named.values()) {
        value.update(|value| *value *= 2).unwrap();
    }
    parcel
}

scenario!(values_are_arguments_and_results_in_whatever_they_stand, {
    let value = |number| Value::new(number).unwrap();
    let parcel = Parcel {
        one: Value::new(READING).unwrap(),
        maybe: Some(value(1)),
        many: (2..20).map(value).collect(),
        named: BTreeMap::from([("a".to_owned(), value(20))]),
    };
    let child = unpacks::spawn(Parcel {
        one: parcel.one.clone(),
        maybe: parcel.maybe.clone(),
        many: parcel.many.clone(),
        named: parcel.named.clone(),
    });
    let back = child.unwrap().join().unwrap();
    for parcel in [parcel, back] {
        assert_eq!(parcel.one.get().unwrap(), Reading { celsius: None, ..READING });
        assert_eq!(parcel.maybe.unwrap().get().unwrap(), 2);
        let many: Vec<_> = parcel.many.iter().map(|value| value.get().unwrap()).collect();
        assert_eq!(many, (2..20).map(|number| 2 * number).collect::<Vec<_>>());
        assert_eq!(parcel.named["a"].get().unwrap(), 40);
    }
});

#[process_fn]
fn makes() -> Value<u64> {
    Value::new(11).unwrap()
}

/// Passes the value on to a process of its own, and that to another.
#[process_fn]
fn nests(value: Value<u64>, depth: u32) {
    value.update(|value| *value += 1).unwrap();
    if depth > 0 {
        nests::spawn(value.clone(), depth - 1).unwrap().join().unwrap();
    }
}

scenario!(a_value_outlives_the_process_that_made_it_and_goes_down_to_grandchildren, {
    let value = makes::spawn().unwrap().join().unwrap();
    nests::spawn(value.clone(), 3).unwrap().join().unwrap();
    assert_eq!(value.get().unwrap(), 15);
});

#[process_fn]
fn forwards(from: Receiver<Value<u64>>, to: Sender<Value<u64>>) {
    while let Ok(value) = from.recv() {
        value.update(|value| *value += 1).unwrap();
        to.send(value).unwrap();
    }
}

scenario!(values_go_through_pipes_and_live_in_messages, {
    let (first, from) = pipe().unwrap();
    let (to, last) = pipe().unwrap();
    let child = forwards::spawn(from, to).unwrap();
    for number in 0..50 {
        // The only one: it is in the message, or with the child.
        first.send(Value::new(number).unwrap()).unwrap();
    }
    drop(first);
    child.join().unwrap();
    for number in 0..50 {
        assert_eq!(soon(&last).get().unwrap(), number + 1);
    }
    assert!(last.recv().is_err());
});

#[process_fn]
fn has_it_twice(one: Value<u64>, other: Value<u64>) {
    // Another mapping of the same memory, and the same lock.
    let guard = one.lock().unwrap();
    assert!(other.try_lock().unwrap().is_none());
    assert!(matches!(other.lock(), Err(LockError::Deadlock)));
    let place = &raw const *guard;
    drop(guard);
    assert_ne!(place, &raw const *other.lock().unwrap());
    other.set(8).unwrap();
    assert_eq!(one.get().unwrap(), 8);
}

scenario!(a_value_that_is_received_twice_is_one_value, {
    let value = Value::new(7).unwrap();
    has_it_twice::spawn(value.clone(), value.clone()).unwrap().join().unwrap();
    assert_eq!(value.get().unwrap(), 8);
    // It came back to where it was.
    let (one, other) = duplex::<Value<u64>, Value<u64>>().unwrap();
    one.send(value.clone()).unwrap();
    let again = other.recv().unwrap();
    drop(value);
    assert_eq!(again.get().unwrap(), 8);
});

scenario!(clones_are_one_value, {
    let value = Value::new([0_u32; 300]).unwrap();
    thread::scope(|scope| {
        for index in 0..4 {
            let value = value.clone();
            scope.spawn(move || (0..1_000).for_each(|_| value.update(|counts| counts[index] += 1).unwrap()));
        }
    });
    assert_eq!(value.lock().unwrap()[..5], [1_000, 1_000, 1_000, 1_000, 0]);
    let weak = value.clone();
    drop(value);
    assert_eq!(weak.get().unwrap()[299], 0);
});

#[process_fn]
fn holds_until_killed(value: Value<[u64; 2]>, there: Sender<()>) {
    let mut guard = value.lock().unwrap();
    guard[0] += 1;
    there.send(()).unwrap();
    mp_testing::run_for_ever();
}

/// What a dead owner has left.
fn left(value: &Value<[u64; 2]>) -> [u64; 2] {
    *value.lock().unwrap_err().into_guard().unwrap()
}

scenario!(a_dead_owner_is_told_until_somebody_mends_the_value, {
    let value = Value::new([5, 5]).unwrap();
    let holder = Held::start(|there| holds_until_killed::call(value.clone(), there));
    assert!(value.try_lock().unwrap().is_none());
    let begun = Instant::now();
    assert!(value.lock_timeout(Duration::from_millis(30)).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(format!("{value:?}"), "Value { value: <locked> }");
    holder.kill();

    for _ in 0..2 {
        // Neither touches it, nor makes it whole.
        assert!(matches!(value.set([9, 9]), Err(LockError::OwnerDied(()))));
        let called = value.update(|_| panic!("it is half changed"));
        assert!(matches!(called, Err(LockError::OwnerDied(()))));
        assert!(matches!(value.get(), Err(LockError::OwnerDied(()))));
        assert_eq!(left(&value), [6, 5]);
        assert!(matches!(value.try_lock(), Err(LockError::OwnerDied(_))));
        assert!(matches!(value.lock_timeout(PATIENCE), Err(LockError::OwnerDied(_))));
        assert_eq!(format!("{value:?}"), "Value { owner_died: true, value: [6, 5] }");
    }
    // Others are told as well, by whichever mapping.
    let (one, other) = pipe().unwrap();
    one.send(value.clone()).unwrap();
    assert_eq!(left(&soon(&other)), [6, 5]);

    let Err(LockError::OwnerDied(mut guard)) = value.lock() else { panic!("nobody died") };
    guard[1] = guard[0];
    guard.mark_consistent();
    drop(guard);
    value.update(|both| both[1] += 1).unwrap();
    assert_eq!(value.get().unwrap(), [6, 7]);
    value.set([1, 2]).unwrap();
    assert_eq!(format!("{value:?}"), "Value { value: [1, 2] }");
});

#[process_fn]
fn panics_in_an_update(value: Value<[u64; 2]>) {
    let _: Result<(), _> = value.update(|both| {
        both[0] += 1;
        panic!("on purpose");
    });
}

#[process_fn]
fn exits_in_an_update(value: Value<[u64; 2]>) {
    let _: Result<(), _> = value.update(|both| {
        both[1] += 1;
        std::process::exit(0);
    });
}

scenario!(a_panic_and_an_exit_in_an_update_are_told, {
    let value = Value::new([0, 0]).unwrap();
    let mend = || value.lock().unwrap_err().into_guard().unwrap().mark_consistent();
    let error = panics_in_an_update::spawn(value.clone()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Panicked(_)));
    assert!(matches!(value.get(), Err(LockError::OwnerDied(()))));
    assert_eq!(left(&value), [1, 0]);
    mend();
    exits_in_an_update::spawn(value.clone()).unwrap().join().unwrap();
    assert_eq!(left(&value), [1, 1]);
    mend();
    let result = catch_unwind(AssertUnwindSafe(|| panics_in_an_update(value.clone())));
    assert!(result.is_err());
    assert!(matches!(value.set([0, 0]), Err(LockError::OwnerDied(()))));
    mend();
    assert_eq!(value.get().unwrap(), [2, 1]);
});

scenario!(an_update_within_an_update_is_an_error, {
    let value = Value::new(1).unwrap();
    let inner = value.update(|_| value.update(|_| panic!("it has it already"))).unwrap();
    assert!(matches!(inner, Err(LockError::Deadlock)));
    assert!(matches!(value.update(|_| value.get()).unwrap(), Err(LockError::Deadlock)));
    assert!(matches!(value.update(|_| value.set(2)).unwrap(), Err(LockError::Deadlock)));
    assert_eq!(value.update(|_| format!("{value:?}")).unwrap(), "Value { value: <locked> }");
    assert_eq!(value.get().unwrap(), 1);
});

#[process_fn]
fn waits_for_it(value: Value<[u64; 2]>, there: Sender<()>) {
    there.send(()).unwrap();
    drop(value.lock());
    unreachable!("the parent holds it");
}

scenario!(a_waiter_that_is_killed_holds_nobody_up, {
    let value = Value::new([0, 0]).unwrap();
    let guard = value.lock().unwrap();
    let waiters: Vec<_> = (0..3).map(|_| Held::start(|there| waits_for_it::call(value.clone(), there))).collect();
    for waiter in waiters {
        eventually("it sleeps", || sleeps_on_a_futex(waiter.pid()));
        waiter.kill();
    }
    drop(guard);
    let begun = Instant::now();
    value.set([1, 1]).unwrap();
    assert!(begun.elapsed() < PROMPTLY);
    assert_eq!(value.get().unwrap(), [1, 1]);
});

/// Counts up both numbers, which are equal while nobody is in the middle of it, and mends what the
/// dead have left.
#[process_fn]
fn adds_until_killed(value: Value<[u64; 2]>, there: Sender<()>) {
    there.send(()).unwrap();
    loop {
        let added = value.update(|both| {
            assert_eq!(both[0], both[1]);
            both[0] += 1;
            std::hint::black_box(&mut *both);
            both[1] += 1;
        });
        match added {
            Ok(()) => {}
            Err(LockError::OwnerDied(())) => mend(&value),
            Err(error) => panic!("{error}"),
        }
    }
}

fn mend(value: &Value<[u64; 2]>) {
    // Somebody else may have been faster.
    if let Err(LockError::OwnerDied(mut both)) = value.lock() {
        assert!(both[0] == both[1] || both[0] == both[1] + 1);
        both[1] = both[0];
        both.mark_consistent();
    }
}

scenario!(those_who_are_killed_at_any_instant_leave_a_value_that_others_mend, limit(count(40)), {
    let value = Value::new([0, 0]).unwrap();
    let start = |_, there| adds_until_killed::call(value.clone(), there);
    let mut last = 0;
    kill_at_random(
        3,
        count(40),
        start,
        |_| {},
        || {
            mend(&value);
            let [now, _] = *value.lock().unwrap_or_else(|error| error.into_guard().unwrap());
            assert!(now >= last);
            last = now;
        },
    );
    assert!(last > 0);
});

#[test]
fn errors_of_locks_can_be_boxed() {
    use std::error::Error;

    fn add(value: &Value<u64>) -> Result<u64, Box<dyn Error>> {
        *value.lock()? += 1;
        value.update(|value| *value += 1)?;
        Ok(value.get()?)
    }
    fn reverse(array: &Array<u64>) -> Result<(), Box<dyn Error + Send + Sync>> {
        array.lock()?.reverse();
        Ok(())
    }
    let value = Value::new(0).unwrap();
    assert_eq!(add(&value).unwrap(), 2);
    let guard = value.lock().unwrap();
    assert_eq!(add(&value).unwrap_err().to_string(), "this thread already holds the lock");
    drop(guard);
    let array = Array::from_slice(&[1, 2]).unwrap();
    reverse(&array).unwrap();
    assert_eq!(array.get(0).unwrap(), 2);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = array.lock().unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    // The guard is dropped with the error, so the lock is free again each time.
    for _ in 0..2 {
        let error = reverse(&array).unwrap_err().to_string();
        assert_eq!(error, "an owner of the lock died or panicked while holding it");
    }
}

scenario!(waiting_is_as_long_as_it_says, {
    let value = Value::new(0).unwrap();
    let guard = value.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(50)] {
                let begun = Instant::now();
                assert!(value.lock_timeout(time).unwrap().is_none());
                assert!(begun.elapsed() >= time);
            }
        });
    });
    drop(guard);
    *value.lock_timeout(Duration::MAX).unwrap().unwrap() += 1;
    assert_eq!(*value.try_lock().unwrap().unwrap(), 1);
});

/// It can be sent to and used from any thread, and errors can be passed on.
#[test]
fn it_goes_where_others_go() {
    fn is_value<
        T: Send + Sync + Clone + Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Unpin + 'static,
    >() {
    }
    is_value::<Value<u64>>();
    is_value::<Value<Reading>>();
    let attempt = || -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        let value = Value::new(1)?;
        value.update(|value| *value += 1)?;
        Ok(value.get()?)
    };
    assert_eq!(attempt().unwrap(), 2);
}
