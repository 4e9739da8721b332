//! A program that has used up the keys of threads.

use std::mem::forget;
use std::thread;

use crate::memory::InShared;
use mp_sync::Mutex;
use mp_testing::scenario;

fn use_up_keys() {
    let mut key = 0;
    // SAFETY: the place is valid, and the keys have no destructor.
    while unsafe { libc::pthread_key_create(&raw mut key, None) } == 0 {}
}

scenario!(locks_work_without_a_key, {
    // std takes a key when it starts the first thread, and aborts without.
    thread::spawn(|| {}).join().unwrap();
    use_up_keys();
    let mutex = InShared::new(Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| (0..1_000).for_each(|_| *mutex.lock().unwrap() += 1));
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 10_000);
    // A thread that forgets a guard keeps the lock, as with a key: others may have references.
    // The scope alone would not wait for the thread's end, until which the memory stays mapped.
    thread::scope(|scope| scope.spawn(|| forget(mutex.lock().unwrap())).join().unwrap());
    assert!(mutex.try_lock().unwrap().is_none());
});
