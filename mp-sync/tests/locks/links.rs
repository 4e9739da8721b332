//! The links between a thread's locks, by which the kernel finds them: beyond its limit, scribbled
//! over, and moved out of shared memory.

use std::mem::forget;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mp_core::process_fn;
use mp_sync::Mutex;
use mp_testing::{eventually, scenario};

use crate::memory::InShared;
use crate::robust::{Shared, is_left_behind, many};

/// The lock that the kernel looks at beside those in the list.
fn pending() -> usize {
    let (mut head, mut size) = (std::ptr::null::<usize>(), 0_usize);
    // SAFETY: the call writes a pointer and a size to the two places.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    assert_eq!(result, 0);
    // SAFETY: the head has three words and lives as long as the thread.
    let pending = unsafe { head.add(2) };
    // SAFETY: as above.
    unsafe { pending.read_volatile() }
}

/// The word of the list in a mutex.
fn link<T>(mutex: &Mutex<T>) -> &AtomicUsize {
    let place = std::ptr::from_ref(mutex).cast::<AtomicUsize>().wrapping_add(4);
    // SAFETY: a mutex has its link, an atomic, at this place.
    unsafe { &*place }
}

#[process_fn]
fn holds_more_than_the_kernel_looks_at(many: Shared) -> bool {
    let _guards: Vec<_> = many.locks[..1_022].iter().map(|lock| lock.lock().unwrap()).collect();
    let one_more = InShared::new(Mutex::new(0_u64));
    forget(one_more.lock().unwrap());
    let dangles = pending() != 0;
    drop(one_more);
    dangles
}

scenario!(a_lock_beyond_the_limit_leaves_no_address_behind, {
    assert!(!holds_more_than_the_kernel_looks_at::spawn(many().again()).unwrap().join().unwrap());
});

#[process_fn]
fn releases_beside_a_scribbled_link(many: Shared, how: u32) {
    let _oldest = many.locks[0].lock().unwrap();
    let second = many.locks[1].lock().unwrap();
    let third = many.locks[2].lock().unwrap();
    let _fourth = many.locks[3].lock().unwrap();
    // Another process can write what it likes where the second lock has its link: that of another
    // lock, nothing, or nonsense.
    let scribbled = [link(&many.locks[2]).load(Ordering::SeqCst), 0, 0x1234_5678][how as usize];
    if how == 0 {
        drop(third);
        link(&many.locks[1]).store(link(&many.locks[3]).load(Ordering::SeqCst), Ordering::SeqCst);
    } else {
        link(&many.locks[1]).store(scribbled, Ordering::SeqCst);
        drop(third);
    }
    drop(second);
    many.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(a_scribbled_link_takes_no_other_lock_out_of_the_list, {
    for how in 0..3 {
        let many = many();
        let child = releases_beside_a_scribbled_link::spawn(many.again(), how).unwrap();
        eventually("it is done", || many.ready.load(Ordering::SeqCst) == 1);
        child.kill().unwrap();
        assert!(child.join().is_err());
        for (index, lock) in many.locks[..5].iter().enumerate() {
            assert_eq!(is_left_behind(lock), index == 0 || index == 3, "way {how}, lock {index}");
        }
    }
});

#[process_fn]
fn uses_a_lock_that_was_moved_out(many: Shared) {
    // As whoever has an exclusive reference into the memory can do.
    let nested = InShared::new(Mutex::new(Mutex::new(0_u64)));
    let mut outer = nested.lock().unwrap();
    drop(outer.lock().unwrap());
    let moved = std::mem::replace(&mut *outer, Mutex::new(0));
    assert_eq!(link(&moved).load(Ordering::SeqCst), 0, "a lock that is free has no link");
    let held = many.locks[0].lock().unwrap();
    drop(moved.lock().unwrap());
    forget(held);
    many.ready.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

scenario!(a_lock_that_was_moved_out_takes_no_other_lock_out_of_the_list, {
    let many = many();
    let child = uses_a_lock_that_was_moved_out::spawn(many.again()).unwrap();
    eventually("it is done", || many.ready.load(Ordering::SeqCst) == 1);
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(is_left_behind(&many.locks[0]));
});
