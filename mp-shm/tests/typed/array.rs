//! `Array` between processes, of every length, and what it does when those who use it die.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::raw::Message;
use mp_core::{JoinError, Process, Receiver, Sender, pipe, process_fn};
use mp_shm::{Array, ArrayError, ArrayGuard, ShmSafe};
use mp_sync::LockError;
use mp_testing::faults::{Random, count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use serde::{Deserialize, Serialize};

#[process_fn]
fn adds(array: Array<u64>, times: u64) {
    let len = array.len() as u64;
    for time in 0..times {
        array.update((time % len) as usize, |element| *element += 1).unwrap();
        for element in &mut *array.lock().unwrap() {
            *element += 1;
        }
    }
}

scenario!(no_update_is_lost, {
    let array = Array::from_slice(&[100_u64, 200, 300, 400, 500]).unwrap();
    let children: Vec<_> = (0..4).map(|_| adds::spawn(array.clone(), 1_000).unwrap()).collect();
    adds(array.clone(), 1_000);
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*array.lock().unwrap(), [6_100, 6_200, 6_300, 6_400, 6_500]);
});

/// Everything that arrays can be in.
#[derive(Serialize, Deserialize)]
struct Parcel {
    one: Array<f64>,
    maybe: Option<Array<u8>>,
    many: Vec<Array<[i16; 3]>>,
}

#[process_fn]
fn unpacks(parcel: Parcel) -> Parcel {
    parcel.one.update(0, |element| *element /= 2.0).unwrap();
    parcel.maybe.as_ref().unwrap().lock().unwrap().reverse();
    parcel.many.iter().for_each(|array| array.set(1, [7, 8, 9]).unwrap());
    parcel
}

scenario!(arrays_are_arguments_and_results_in_whatever_they_stand, {
    let parcel = Parcel {
        one: Array::from_slice(&[1.0]).unwrap(),
        maybe: Some(Array::from_slice(b"abc").unwrap()),
        many: (2..20).map(|len| Array::zeroed(len).unwrap()).collect(),
    };
    let sent = Parcel { one: parcel.one.clone(), maybe: parcel.maybe.clone(), many: parcel.many.clone() };
    let back = unpacks::spawn(sent).unwrap().join().unwrap();
    for parcel in [parcel, back] {
        assert_eq!(parcel.one.get(0).unwrap(), 0.5);
        assert_eq!(*parcel.maybe.unwrap().lock().unwrap(), *b"cba");
        for (array, len) in parcel.many.iter().zip(2..) {
            assert_eq!(array.len(), len);
            assert_eq!(array.lock().unwrap().iter().filter(|element| **element == [7, 8, 9]).count(), 1);
            assert_eq!((array.get(0).unwrap(), array.get(1).unwrap()), ([0; 3], [7, 8, 9]));
        }
    }
});

#[process_fn]
fn makes(len: usize) -> Array<u32> {
    let array = Array::zeroed(len).unwrap();
    array.set(len - 1, 3).unwrap();
    array
}

/// Passes the array on to a process of its own, and that to another.
#[process_fn]
fn nests(array: Array<u32>, depth: usize) {
    array.set(depth, 1).unwrap();
    if depth > 0 {
        nests::spawn(array.clone(), depth - 1).unwrap().join().unwrap();
    }
}

scenario!(an_array_outlives_the_process_that_made_it_and_goes_down_to_grandchildren, {
    let array = makes::spawn(1_000).unwrap().join().unwrap();
    nests::spawn(array.clone(), 3).unwrap().join().unwrap();
    assert_eq!(array.lock().unwrap()[..6], [1, 1, 1, 1, 0, 0]);
    assert_eq!(array.get(999).unwrap(), 3);
});

#[process_fn]
fn forwards(from: Receiver<Array<u8>>, to: Sender<Array<u8>>) {
    while let Ok(array) = from.recv() {
        array.lock().unwrap().fill(1);
        to.send(array).unwrap();
    }
}

scenario!(arrays_go_through_pipes_and_live_in_messages, {
    let (first, from) = pipe().unwrap();
    let (to, last) = pipe().unwrap();
    let child = forwards::spawn(from, to).unwrap();
    for len in (0..40).map(|step| step * 999) {
        first.send(Array::zeroed(len).unwrap()).unwrap();
        let array = soon(&last);
        assert_eq!(*array.lock().unwrap(), vec![1; len]);
    }
    drop(first);
    child.join().unwrap();
});

#[process_fn]
fn has_it_twice(one: Array<u8>, other: Array<u8>) {
    let guard = one.lock().unwrap();
    assert!(other.try_lock().unwrap().is_none());
    assert!(matches!(other.lock(), Err(LockError::Deadlock)));
    let place = guard.as_ptr();
    drop(guard);
    assert_ne!(place, other.lock().unwrap().as_ptr());
    other.set(1, 8).unwrap();
    assert_eq!(one.get(1).unwrap(), 8);
}

scenario!(an_array_that_is_received_twice_is_one_array, {
    let array = Array::zeroed(3).unwrap();
    has_it_twice::spawn(array.clone(), array.clone()).unwrap().join().unwrap();
    assert_eq!(*array.lock().unwrap(), [0, 8, 0]);
});

#[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
#[repr(align(4096))]
struct Page(u8);

#[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Nothing;

/// A tuple, with padding that nobody has written.
const PADDED: (u8, u64, Option<char>) = (1, 2, Some('ß'));

scenario!(elements_of_every_size_and_alignment_are_where_they_belong, {
    fn holds<T: ShmSafe + Send + Copy + PartialEq + std::fmt::Debug>(value: T) {
        for len in [0, 1, 2, 3, 1000] {
            let array = Array::from_slice(&vec![value; len]).unwrap();
            assert_eq!((array.len(), array.is_empty()), (len, len == 0));
            let guard = array.lock().unwrap();
            assert_eq!(guard.as_ptr().addr() % align_of::<T>(), 0);
            assert!(guard.len() == len && guard.iter().all(|element| *element == value));
        }
    }
    holds(3_u8);
    holds([1_u16; 7]);
    holds(u128::MAX);
    holds(PADDED);
    holds(Page(9));
    holds(());
    holds(Nothing);
});

#[process_fn]
fn counts(nothings: Array<()>, empty: Array<u64>) -> (usize, usize) {
    assert!(empty.is_empty() && empty.lock().unwrap().is_empty());
    assert!(matches!(empty.get(0), Err(ArrayError::OutOfBounds { index: 0, len: 0 })));
    nothings.set(usize::MAX - 1, ()).unwrap();
    (nothings.lock().unwrap().iter().len(), empty.len())
}

scenario!(there_may_be_no_elements_and_elements_of_nothing, {
    let nothings = Array::zeroed(usize::MAX).unwrap();
    let empty = Array::from_slice(&[]).unwrap();
    assert_eq!(counts::spawn(nothings.clone(), empty.clone()).unwrap().join().unwrap(), (usize::MAX, 0));
    assert!(matches!(nothings.get(usize::MAX), Err(ArrayError::OutOfBounds { .. })));
    assert_eq!(format!("{empty:?}"), "Array { len: 0, elements: [] }");
});

fn is_overcommit_strict() -> bool {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2")
}

#[process_fn]
fn last_of(array: Array<u8>) -> u8 {
    let last = array.len() - 1;
    array.set(last / 2, 4).unwrap();
    array.get(last).unwrap()
}

/// Encoded as an array is.
#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] OwnedFd);

scenario!(the_elements_of_a_large_array_take_memory_when_they_are_touched, {
    let len = 1 << 30;
    let array = Array::<u8>::zeroed(len).unwrap();
    array.set(len - 1, 3).unwrap();
    assert_eq!(last_of::spawn(array.clone()).unwrap().join().unwrap(), 3);
    assert_eq!((array.get(0).unwrap(), array.get((len - 1) / 2).unwrap()), (0, 4));
    if is_overcommit_strict() {
        return println!("not tested: here memory is set aside for all of it");
    }
    let Handle(file) = Message::encode(&array).unwrap().decode().unwrap();
    let blocks = rustix::fs::fstat(&file).unwrap().st_blocks as u64;
    assert!(blocks * 512 < len as u64 / 8, "four touches, be it of huge pages");
});

scenario!(an_index_beyond_the_end_is_an_error_that_touches_nothing, {
    let array = Array::from_slice(&[1, 2, 3]).unwrap();
    for index in [3, 4, 1 << 40, usize::MAX] {
        let is_beyond = |error: &ArrayError| match error {
            ArrayError::OutOfBounds { index: found, len: 3 } => *found == index,
            _ => false,
        };
        assert!(matches!(array.get(index), Err(ArrayError::OutOfBounds { index: found, len: 3 }) if found == index));
        assert!(is_beyond(&array.set(index, 9).unwrap_err()));
        assert!(is_beyond(&array.update(index, |_| panic!("there is none")).unwrap_err()));
    }
    // It does not wait for the lock to say so.
    let guard = array.lock().unwrap();
    assert!(matches!(array.get(3), Err(ArrayError::OutOfBounds { .. })));
    assert!(matches!(array.get(2), Err(ArrayError::Lock(LockError::Deadlock))));
    assert!(matches!(array.set(2, 9), Err(ArrayError::Lock(LockError::Deadlock))));
    assert_eq!(*guard, [1, 2, 3]);
});

#[test]
fn errors_go_wherever_errors_go() {
    let attempt = |index| -> Result<u8, Box<dyn Error + Send + Sync>> {
        let array = Array::zeroed(2)?;
        array.set(index, 1)?;
        array.update(index, |element| *element += 1)?;
        Ok(array.get(index)?)
    };
    assert_eq!(attempt(1).unwrap(), 2);
    assert_eq!(attempt(2).unwrap_err().to_string(), "there is no element 2 in an array of 2");
    let error = ArrayError::Lock(LockError::OwnerDied(5));
    assert_eq!(error.to_string(), LockError::OwnerDied(5).to_string());
    assert_eq!(format!("{error:?}"), "Lock(OwnerDied(..))");
    assert_eq!(format!("{:?}", ArrayError::<()>::OutOfBounds { index: 1, len: 0 }), "OutOfBounds { index: 1, len: 0 }");
}

#[process_fn]
fn holds_until_killed(array: Array<u64>, there: Sender<()>) {
    let mut guard = array.lock().unwrap();
    guard[0] += 1;
    there.send(()).unwrap();
    mp_testing::run_for_ever();
}

fn is_told<T>(result: Result<T, ArrayError>) -> bool {
    matches!(result, Err(ArrayError::Lock(LockError::OwnerDied(()))))
}

scenario!(a_dead_owner_is_told_until_somebody_mends_the_elements, {
    let array = Array::from_slice(&[5, 5]).unwrap();
    let holder = Held::start(|there| holds_until_killed::call(array.clone(), there));
    assert!(array.try_lock().unwrap().is_none());
    let begun = Instant::now();
    assert!(array.lock_timeout(Duration::from_millis(30)).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(format!("{array:?}"), "Array { len: 2, elements: <locked> }");
    holder.kill();

    for _ in 0..2 {
        assert!(is_told(array.set(1, 9)));
        assert!(is_told(array.update(0, |_| panic!("it is half changed"))));
        assert!(matches!(array.get(0), Err(ArrayError::Lock(LockError::OwnerDied(6)))));
        assert!(matches!(array.get(2), Err(ArrayError::OutOfBounds { .. })));
        assert!(matches!(array.try_lock(), Err(LockError::OwnerDied(_))));
        assert!(matches!(array.lock_timeout(PATIENCE), Err(LockError::OwnerDied(_))));
        assert_eq!(format!("{array:?}"), "Array { len: 2, owner_died: true, elements: [6, 5] }");
    }
    let Err(LockError::OwnerDied(mut guard)) = array.lock() else { panic!("nobody died") };
    guard[1] = guard[0];
    guard.mark_consistent();
    drop(guard);
    array.update(1, |element| *element += 1).unwrap();
    assert_eq!(*array.lock().unwrap(), [6, 7]);
    assert_eq!(format!("{array:?}"), "Array { len: 2, elements: [6, 7] }");
    assert_eq!(format!("{:?}", array.lock().unwrap()), "[6, 7]");
});

#[process_fn]
fn panics_in_an_update(array: Array<u64>) {
    let _: Result<(), _> = array.update(1, |element| {
        *element += 1;
        panic!("on purpose");
    });
}

#[process_fn]
fn panics_with_a_guard(array: Array<u64>) {
    let mut guard = array.lock().unwrap();
    guard[0] += 1;
    panic!("on purpose");
}

scenario!(a_panic_is_told, {
    let array = Array::zeroed(2).unwrap();
    let mend = || array.lock().unwrap_err().into_guard().unwrap().mark_consistent();
    let panics = |process: Process<()>| {
        assert!(matches!(process.join(), Err(JoinError::Panicked(_))));
        assert!(is_told(array.set(0, 9)));
        mend();
    };
    panics(panics_in_an_update::spawn(array.clone()).unwrap());
    panics(panics_with_a_guard::spawn(array.clone()).unwrap());
    assert_eq!(*array.lock().unwrap(), [1, 1]);
    assert!(catch_unwind(AssertUnwindSafe(|| panics_with_a_guard(array.clone()))).is_err());
    assert!(is_told(array.set(0, 9)));
    mend();
    assert_eq!(array.get(0).unwrap(), 2);
    // A panic that is under way already says nothing of the elements.
    struct Uses<'a>(&'a Array<u64>);
    impl Drop for Uses<'_> {
        fn drop(&mut self) {
            self.0.set(1, 77).unwrap();
        }
    }
    let unwinding = catch_unwind(AssertUnwindSafe(|| {
        let _uses = Uses(&array);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(unwinding.is_err());
    assert_eq!(array.get(1).unwrap(), 77);
});

#[process_fn]
fn waits_for_it(array: Array<u64>, there: Sender<()>) {
    there.send(()).unwrap();
    drop(array.lock());
    unreachable!("the parent holds it");
}

scenario!(a_waiter_that_is_killed_holds_nobody_up, {
    let array = Array::zeroed(1).unwrap();
    let guard = array.lock().unwrap();
    let waiters: Vec<_> = (0..3).map(|_| Held::start(|there| waits_for_it::call(array.clone(), there))).collect();
    for waiter in waiters {
        eventually("it sleeps", || sleeps_on_a_futex(waiter.pid()));
        waiter.kill();
    }
    drop(guard);
    let begun = Instant::now();
    array.set(0, 1).unwrap();
    assert!(begun.elapsed() < PROMPTLY);
});

/// Moves from one element to another, so that the sum stays, but while somebody is in the middle of
/// it.
#[process_fn]
fn moves_until_killed(array: Array<u64>, seed: u64, there: Sender<()>) {
    there.send(()).unwrap();
    let mut random = Random::seeded(seed);
    loop {
        let mut elements = locked(&array);
        let [from, to] = [0; 2].map(|_| random.below(elements.len() as u64) as usize);
        if elements[from] > 0 {
            elements[from] -= 1;
            std::hint::black_box(&mut *elements);
            elements[to] += 1;
        }
    }
}

const ELEMENTS: usize = 1_000;
const SUM: u64 = 5_000;

/// The elements, in order: mended, if somebody died.
fn locked(array: &Array<u64>) -> ArrayGuard<'_, u64> {
    match array.lock_timeout(PATIENCE) {
        Ok(guard) => guard.expect("nobody has it for so long"),
        Err(LockError::OwnerDied(mut elements)) => {
            let sum: u64 = elements.iter().sum();
            assert!(sum == SUM || sum == SUM - 1, "{sum}");
            elements[0] += SUM - sum;
            elements.mark_consistent();
            elements
        }
        Err(error) => panic!("{error}"),
    }
}

scenario!(those_who_are_killed_at_any_instant_leave_an_array_that_others_mend, limit(count(40)), {
    let array = Array::from_slice(&[SUM / ELEMENTS as u64; ELEMENTS]).unwrap();
    let start = |number, there| moves_until_killed::call(array.clone(), number, there);
    kill_at_random(3, count(40), start, |_| {}, || assert_eq!(locked(&array).iter().sum::<u64>(), SUM));
    assert!(locked(&array).iter().any(|element| *element != SUM / ELEMENTS as u64), "somebody has moved something");
});

#[test]
fn the_guard_lends_to_other_threads_what_may_be_lent() {
    let array = Array::zeroed(100).unwrap();
    let mut guard = array.lock().unwrap();
    thread::scope(|scope| {
        for (index, chunk) in guard.chunks_mut(30).enumerate() {
            scope.spawn(move || chunk.fill(index));
        }
    });
    let shared = &guard;
    thread::scope(|scope| scope.spawn(|| assert_eq!((shared[0], shared[99]), (0, 3))).join().unwrap());
}

#[test]
fn it_goes_where_others_go() {
    fn is_value<
        T: Send + Sync + Clone + Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Unpin + 'static,
    >() {
    }
    is_value::<Array<u64>>();
    is_value::<Array<(u8, Option<f32>)>>();
    fn is_lent<T: Sync>() {}
    is_lent::<ArrayGuard<'_, u64>>();
}
