//! The list by which the kernel finds what the dead held: whatever is done with guards, threads,
//! forks, and the C library's own mutexes.

use std::cell::UnsafeCell;
use std::mem::{MaybeUninit, forget};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::memory::InShared;
use mp_core::process_fn;
use mp_sync::{LockError, Mutex, ReentrantMutex, RwLock};
use mp_testing::faults::Random;
use mp_testing::{eventually, scenario};

/// As many as a thread can hold, and more.
const MANY: usize = 1_100;

pub(crate) struct Many {
    pub(crate) locks: [Mutex<u32>; MANY],
    foreign: [Foreign; 4],
    pub(crate) ready: AtomicU32,
}

/// A robust mutex of the C library.
pub(crate) struct Foreign(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a mutex is made for that.
unsafe impl Sync for Foreign {}

impl Foreign {
    fn init(&self) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: a place for the attributes.
        assert_eq!(unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) }, 0);
        // SAFETY: they have been initialised.
        let shared =
            unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: they have been initialised.
        let robust = unsafe { libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) };
        assert_eq!((shared, robust), (0, 0));
        // SAFETY: a place for the mutex, and attributes. These own nothing that would have to be
        // freed.
        assert_eq!(unsafe { libc::pthread_mutex_init(self.0.get().cast(), attributes.as_ptr()) }, 0);
    }

    /// What `pthread_mutex_trylock` says.
    fn try_lock(&self) -> i32 {
        // SAFETY: it was initialised.
        unsafe { libc::pthread_mutex_trylock(self.0.get().cast()) }
    }

    fn unlock(&self) {
        // SAFETY: it was initialised.
        let result = unsafe { libc::pthread_mutex_unlock(self.0.get().cast()) };
        assert_eq!(result, 0);
    }
}

pub(crate) type Shared = InShared<Many>;

pub(crate) fn many() -> Shared {
    let many = InShared::new(Many {
        locks: [const { Mutex::new(0) }; MANY],
        foreign: [const { Foreign(UnsafeCell::new(MaybeUninit::uninit())) }; 4],
        ready: AtomicU32::new(0),
    });
    many.foreign.iter().for_each(Foreign::init);
    many
}

pub(crate) fn is_left_behind(lock: &Mutex<u32>) -> bool {
    match lock.try_lock() {
        Ok(Some(_)) => false,
        Ok(None) => panic!("it is held by the dead for ever"),
        Err(LockError::OwnerDied(mut guard)) => {
            guard.mark_consistent();
            true
        }
        Err(error) => panic!("{error}"),
    }
}

/// Takes and releases locks of both kinds in an order of chance, and dies with some of them.
#[process_fn]
fn mixes(many: Shared, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut guards: Vec<_> = (0..16).map(|_| None).collect();
    let mut foreign = [false; 4];
    // Some of the others are older than all of ours.
    for _ in 0..random.below(8) {
        let index = random.below(4) as usize;
        if !foreign[index] {
            assert_eq!(many.foreign[index].try_lock(), 0);
            foreign[index] = true;
        }
    }
    for _ in 0..random.below(400) {
        if random.below(4) == 0 {
            let index = random.below(4) as usize;
            if foreign[index] {
                many.foreign[index].unlock();
            } else {
                assert_eq!(many.foreign[index].try_lock(), 0);
            }
            foreign[index] = !foreign[index];
        } else {
            let index = random.below(16) as usize;
            guards[index] = if guards[index].is_some() { None } else { Some(many.locks[index].lock().unwrap()) };
        }
    }
    // What is held now is told to the parent.
    let own = guards.iter().enumerate().filter(|(_, guard)| guard.is_some()).map(|(index, _)| 1 << index).sum::<u32>();
    let others = foreign.iter().enumerate().filter(|(_, held)| **held).map(|(index, _)| 1 << index).sum::<u32>();
    many.ready.store(1 << 31 | others << 16 | own, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(locks_of_the_c_library_and_ours_are_left_behind_together, {
    let many = many();
    for seed in 1..40 {
        many.ready.store(0, Ordering::SeqCst);
        let child = mixes::spawn(many.again(), seed).unwrap();
        eventually("it is done", || many.ready.load(Ordering::SeqCst) != 0);
        child.kill().unwrap();
        assert!(child.join().is_err());
        let held = many.ready.load(Ordering::SeqCst);
        for index in 0..16 {
            assert_eq!(is_left_behind(&many.locks[index]), held >> index & 1 == 1, "seed {seed}, lock {index}");
        }
        for index in 0..4 {
            let expected = if held >> (16 + index) & 1 == 1 { libc::EOWNERDEAD } else { 0 };
            assert_eq!(many.foreign[index].try_lock(), expected, "seed {seed}, foreign lock {index}");
            many.foreign[index].unlock();
            many.foreign[index].init();
        }
    }
});

#[process_fn]
fn holds_many(many: Shared, backwards: bool) {
    let mut guards: Vec<_> = many.locks.iter().map(|lock| lock.lock().unwrap()).collect();
    if backwards {
        guards.reverse();
    }
    // From the front, that is not the opposite order.
    guards.drain(..500).for_each(drop);
    many.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(a_thread_can_hold_many_and_release_them_in_any_order, {
    for backwards in [false, true] {
        let many = many();
        let child = holds_many::spawn(many.again(), backwards).unwrap();
        eventually("it holds them", || many.ready.load(Ordering::SeqCst) == 1);
        child.kill().unwrap();
        assert!(child.join().is_err());
        let held = if backwards { 0..MANY - 500 } else { 500..MANY };
        for (index, lock) in many.locks.iter().enumerate() {
            // The last ones were beyond what the kernel looks at: they stay locked, as documented.
            if index < 1_022 {
                assert_eq!(is_left_behind(lock), held.contains(&index), "lock {index}");
            } else if held.contains(&index) {
                assert!(lock.try_lock().unwrap().is_none(), "lock {index}");
            }
        }
    }
});

#[process_fn]
fn forgets(many: Shared, how: u32) {
    let other = InShared::new(Mutex::new(1));
    match how {
        // The mapping goes, the lock does not: it stays mapped.
        0 => {
            forget(many.locks[0].lock().unwrap());
            let again = many.again();
            forget(again.locks[1].lock().unwrap());
            drop(again);
            forget(other.lock().unwrap());
            drop(other);
        }
        // Memory that comes and goes where forgotten locks were.
        1 => {
            for _ in 0..200 {
                let short_lived = InShared::new(Mutex::new([0_u64; 500]));
                drop(short_lived.lock().unwrap());
                drop(short_lived);
                let on_the_stack = Mutex::new(0);
                forget(on_the_stack.lock().unwrap());
            }
            forget(many.locks[0].lock().unwrap());
            forget(many.locks[1].lock().unwrap());
        }
        // The two are forgotten by one who releases others around them.
        _ => {
            let first = many.locks[2].lock().unwrap();
            forget(many.locks[0].lock().unwrap());
            let second = many.locks[3].lock().unwrap();
            forget(many.locks[1].lock().unwrap());
            let third = many.locks[4].lock().unwrap();
            drop(second);
            drop(third);
            drop(first);
        }
    }
    // Allocates and uses other locks after that.
    let noise: Vec<_> = (0..100_000_u32).map(|number| number.wrapping_mul(2_654_435_761)).collect();
    for lock in &many.locks[5..100] {
        *lock.lock().unwrap() = noise[7];
    }
    many.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(a_forgotten_guard_leaves_nothing_dangling_and_is_told, {
    for how in 0..3 {
        let many = many();
        let child = forgets::spawn(many.again(), how).unwrap();
        eventually("it is done", || many.ready.load(Ordering::SeqCst) == 1);
        assert!(many.locks[0].try_lock().unwrap().is_none());
        child.kill().unwrap();
        assert!(child.join().is_err());
        for (index, lock) in many.locks[..100].iter().enumerate() {
            assert_eq!(is_left_behind(lock), index < 2, "way {how}, lock {index}");
        }
    }
});

#[process_fn]
fn takes_from_hand_to_hand(many: Shared) {
    // Never without a lock, and far more often than there is room for.
    let mut last = Some(many.locks[0].lock().unwrap());
    for round in 1..5_000 {
        let next = many.locks[round % 7].lock().unwrap();
        last.replace(next);
    }
    let _other = many.locks[20].lock().unwrap();
    many.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(locks_may_be_taken_from_hand_to_hand, {
    let many = many();
    let child = takes_from_hand_to_hand::spawn(many.again()).unwrap();
    eventually("it is done", || many.ready.load(Ordering::SeqCst) == 1);
    child.kill().unwrap();
    assert!(child.join().is_err());
    for (index, lock) in many.locks[..30].iter().enumerate() {
        assert_eq!(is_left_behind(lock), index == 4_999 % 7 || index == 20, "lock {index}");
    }
});

/// What may be put where a lock was, while a forgotten guard still holds it.
enum Either {
    Lock(Mutex<u64>),
    References([&'static u64; 8]),
}

#[process_fn]
fn overwrites_a_forgotten_lock() {
    static VALUE: u64 = 0x5555;
    let shared = InShared::new([const { Mutex::new(Either::Lock(Mutex::new(0))) }; 3]);
    let older = shared[0].lock().unwrap();
    let mut outer = shared[1].lock().unwrap();
    let Either::Lock(inner) = &*outer else { unreachable!() };
    forget(inner.lock().unwrap());
    *outer = Either::References([&VALUE; 8]);
    let newer = shared[2].lock().unwrap();
    drop(older);
    drop(outer);
    drop(newer);
    let outer = shared[1].lock().unwrap();
    let Either::References(references) = &*outer else { panic!("it is another") };
    assert!(references.iter().all(|reference| std::ptr::eq(*reference, &raw const VALUE)));
}

// Safe code may overwrite a lock whose guard it has forgotten: nothing is written there any more.
scenario!(the_bytes_of_a_forgotten_lock_may_be_used_for_other_things, {
    // In a process of its own, as the memory stays mapped.
    overwrites_a_forgotten_lock::spawn().unwrap().join().unwrap();
});

struct Pair {
    mutex: Mutex<u32>,
    reentrant: ReentrantMutex<u32>,
    rwlock: RwLock<u32>,
    other: Mutex<u32>,
    pub(crate) ready: AtomicU32,
}

#[process_fn]
fn locks_through_two_mappings(pair: InShared<Pair>) {
    let other = pair.again();
    let _oldest = pair.mutex.lock().unwrap();
    for _ in 0..3 {
        let first = pair.reentrant.lock().unwrap();
        let second = other.reentrant.lock().unwrap();
        drop(first);
        drop(second);
        let first = pair.rwlock.read().unwrap();
        let second = other.rwlock.read().unwrap();
        drop(first);
        drop(second);
        assert!(!pair.reentrant.is_locked() && other.rwlock.try_write().unwrap().is_some());
    }
    let _newest = other.other.lock().unwrap();
    pair.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(a_lock_may_be_released_through_another_mapping, {
    let pair = InShared::new(Pair {
        mutex: Mutex::new(0),
        reentrant: ReentrantMutex::new(0),
        rwlock: RwLock::new(0),
        other: Mutex::new(0),
        ready: AtomicU32::new(0),
    });
    let child = locks_through_two_mappings::spawn(pair.again()).unwrap();
    eventually("it is done", || pair.ready.load(Ordering::SeqCst) == 1);
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(is_left_behind(&pair.mutex) && is_left_behind(&pair.other));
    drop(pair.reentrant.try_lock().unwrap().unwrap());
    drop(pair.rwlock.try_write().unwrap().unwrap());
});

// References that came from a leaked guard may be anywhere, so nobody else may get the lock.
scenario!(what_a_thread_forgot_stays_locked_when_it_ends, {
    let many = many();
    let forgets = || {
        forget(many.locks[0].lock().unwrap());
        let _dropped = many.locks[1].lock().unwrap();
    };
    // Joined, since a scope does not wait for what its threads do at their very end.
    thread::scope(|scope| scope.spawn(forgets).join()).unwrap();
    assert!(many.locks[0].try_lock().unwrap().is_none());
    assert!(!is_left_behind(&many.locks[1]));
    let other = many.again();
    drop(many);
    assert!(other.locks[0].try_lock().unwrap().is_none());
});

scenario!(a_thread_that_ends_leaves_the_c_librarys_locks_to_the_kernel, {
    let many = many();
    let holds = || {
        assert_eq!(many.foreign[0].try_lock(), 0);
        assert_eq!(many.foreign[1].try_lock(), 0);
        forget(many.locks[0].lock().unwrap());
        assert_eq!(many.foreign[2].try_lock(), 0);
        drop(many.locks[1].lock().unwrap());
        assert_eq!(many.foreign[3].try_lock(), 0);
        many.foreign[1].unlock();
    };
    for _ in 0..3 {
        thread::scope(|scope| scope.spawn(holds).join()).unwrap();
        let left: Vec<_> = many.foreign.iter().map(Foreign::try_lock).collect();
        assert_eq!(left, [libc::EOWNERDEAD, 0, libc::EOWNERDEAD, libc::EOWNERDEAD]);
        many.foreign.iter().for_each(Foreign::unlock);
        many.foreign.iter().for_each(Foreign::init);
        assert!(many.locks[0].try_lock().unwrap().is_none() && !is_left_behind(&many.locks[1]));
        // SAFETY: nobody else uses it, and the thread that forgot it has ended.
        unsafe { many.place().cast::<Mutex<u32>>().write(Mutex::new(0)) };
    }
});

// A thread's place is given to later threads.
scenario!(threads_come_and_go, {
    let many = many();
    for round in 0..50 {
        thread::scope(|scope| {
            for index in 0..8 {
                let many = &many;
                scope.spawn(move || {
                    let mut first = many.locks[index].lock().unwrap();
                    let _second = many.locks[index + 8].lock().unwrap();
                    *first += 1;
                    if round == 49 {
                        // Dies in a thread that is not the first of its process.
                        let again = many.again();
                        let child = holds_in_a_thread::spawn(again, index as u32 + 16).unwrap();
                        eventually("it holds", || many.locks[index + 16].is_locked());
                        child.kill().unwrap();
                        assert!(child.join().is_err());
                        assert!(is_left_behind(&many.locks[index + 16]));
                    }
                });
            }
        });
    }
    assert!(many.locks[..8].iter().all(|lock| *lock.lock().unwrap() == 50));
});

#[process_fn]
fn holds_in_a_thread(many: Shared, index: u32) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = many.locks[index as usize].lock().unwrap();
            loop {
                thread::park();
            }
        });
    });
}

scenario!(the_child_of_a_fork_has_none_of_the_locks, {
    let many = many();
    let guard = many.locks[0].lock().unwrap();
    // SAFETY: this thread is the only one that uses locks, and the child calls what is safe after a
    // fork, and our locks.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A copy of its parent's guard: dropping it lets nothing go, not even in a panic.
        std::panic::set_hook(Box::new(|_| ()));
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = guard;
            panic!("on purpose");
        }));
        assert!(panics.is_err());
        let still = many.locks[0].is_locked();
        let own = many.locks[1].lock().is_ok();
        let taken = many.locks[2].lock().unwrap();
        forget(taken);
        // SAFETY: ends the child at once, with a lock in its hands.
        unsafe { libc::_exit(if still && own { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: it is the child of this process, and `status` is a place for it.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert!(many.locks[0].is_locked());
    assert!(!is_left_behind(&many.locks[1]));
    assert!(is_left_behind(&many.locks[2]));
    drop(guard);
    assert!(!is_left_behind(&many.locks[0]));
});

#[test]
fn memory_that_is_registered_is_not_registered_twice() {
    let memory = memmap2::MmapMut::map_anon(8_192).unwrap();
    let start = memory.as_ptr().cast_mut();
    // SAFETY: the memory is mapped while the region is there.
    let first = unsafe { mp_sync::SharedRegion::new(memory, start, 8_192) }.unwrap();
    let kind = |offset: usize, length| {
        // SAFETY: the same memory, which `first` keeps.
        unsafe { mp_sync::SharedRegion::new((), start.wrapping_add(offset), length) }.unwrap_err().kind()
    };
    assert_eq!(kind(0, 8_192), std::io::ErrorKind::AlreadyExists);
    assert_eq!(kind(4_096, 10), std::io::ErrorKind::AlreadyExists);
    assert_eq!(kind(0, 0), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(0, usize::MAX), std::io::ErrorKind::InvalidInput);
    assert!(first.at::<u64>(8_185).is_none() && first.at::<u64>(3).is_none() && first.at::<u64>(usize::MAX).is_none());
    assert!(first.at::<u64>(8_184).is_some());
    assert_eq!((first.len(), first.is_empty()), (8_192, false));
}
