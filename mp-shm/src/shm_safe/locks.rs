//! The locks of `mp-sync`, which are made to be in shared memory.
//!
//! They all consist of atomics and numbers, follow no pointers, and work in any number of processes
//! and at any address. Dropping one only drops its value, which does nothing. Zero bytes are a new
//! lock with a value of zero bytes, except for a barrier.
//!
//! What a `Mutex` or a `RwLock` protects is lent mutably, so it has no locks of its own. A
//! `ReentrantMutex` and a `OnceLock` only lend shared references.

use mp_sync::futex::Futex;
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};

use super::ShmSafe;
use crate::Layout;

// SAFETY: see above. The lock lends the value to its owner, in any process.
unsafe impl<T: ShmSafe> ShmSafe for Mutex<T> {
    const LAYOUT: Layout = Layout::around::<Self>("Mutex", T::LAYOUT.lent()).locks();
}

// SAFETY: as for `Mutex`.
unsafe impl<T: ShmSafe> ShmSafe for ReentrantMutex<T> {
    const LAYOUT: Layout = Layout::around::<Self>("ReentrantMutex", T::LAYOUT).locks();
}

// SAFETY: as for `Mutex`. The number of readers is checked here, because a lock that is made from
// zero bytes does not go through `new`, which checks it.
unsafe impl<T: ShmSafe, const READERS: usize> ShmSafe for RwLock<T, READERS> {
    const LAYOUT: Layout = {
        assert_slots(READERS);
        Layout::around::<Self>("RwLock", T::LAYOUT.lent()).locks()
    };
}

// SAFETY: it is an atomic and nothing else.
unsafe impl ShmSafe for Futex {
    const LAYOUT: Layout = Layout::of::<Self>("Futex").any_bits();
}

// SAFETY: as said above.
unsafe impl ShmSafe for Condvar {
    const LAYOUT: Layout = Layout::of::<Self>("Condvar").zeroable();
}

// SAFETY: see above. Zero bytes are a semaphore without permits.
unsafe impl ShmSafe for Semaphore {
    const LAYOUT: Layout = Layout::of::<Self>("Semaphore").zeroable();
}

// SAFETY: see above. The number of slots is checked, as for `RwLock`. Zero bytes are a semaphore
// with all its permits.
unsafe impl<const CAPACITY: usize> ShmSafe for RobustSemaphore<CAPACITY> {
    const LAYOUT: Layout = {
        assert_slots(CAPACITY);
        Layout::of::<Self>("RobustSemaphore").zeroable().locks()
    };
}

// SAFETY: as said above.
unsafe impl ShmSafe for Event {
    const LAYOUT: Layout = Layout::of::<Self>("Event").zeroable();
}

// SAFETY: see above. A barrier needs the number of its participants, so zero bytes are not valid.
unsafe impl ShmSafe for Barrier {
    const LAYOUT: Layout = Layout::of::<Self>("Barrier");
}

// SAFETY: see above. Zero bytes are an empty cell for any type, because the bytes of the value are
// not read before it is set.
unsafe impl<T: ShmSafe> ShmSafe for OnceLock<T> {
    const LAYOUT: Layout = Layout::around::<Self>("OnceLock", T::LAYOUT).zeroable().locks();
}

/// The condition that `mp-sync` checks for the number of readers or permits when a lock is made.
const fn assert_slots(slots: usize) {
    assert!(
        slots > 0 && slots <= 128 && slots % 4 == 0,
        "the number of slots has to be a multiple of 4, and at most 128"
    );
}
