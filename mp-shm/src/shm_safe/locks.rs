//! The locks of `mp-sync`, which are made to be in shared memory.
//!
//! They all consist of atomics and numbers, follow no pointers, and work in any number of processes
//! and at any address. Dropping one only drops its value, which does nothing. Zero bytes are a new
//! lock with a value of zero bytes. A barrier needs the number of its participants, so for it they
//! are not valid.
//!
//! What a `Mutex` or a `RwLock` protects is lent mutably, so it has no locks of its own. A
//! `ReentrantMutex` and a `OnceLock` only lend shared references.

use mp_sync::futex::Futex;
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};

use super::{AnyBits, ShmSafe, Zeroable};
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
    const LAYOUT: Layout = Layout::of::<Self>("Futex");
}

// SAFETY: as said above.
unsafe impl ShmSafe for Condvar {
    const LAYOUT: Layout = Layout::of::<Self>("Condvar");
}

// SAFETY: as said above.
unsafe impl ShmSafe for Semaphore {
    const LAYOUT: Layout = Layout::of::<Self>("Semaphore");
}

// SAFETY: see above. The number of slots is checked, as for `RwLock`.
unsafe impl<const CAPACITY: usize> ShmSafe for RobustSemaphore<CAPACITY> {
    const LAYOUT: Layout = {
        assert_slots(CAPACITY);
        Layout::of::<Self>("RobustSemaphore").locks()
    };
}

// SAFETY: as said above.
unsafe impl ShmSafe for Event {
    const LAYOUT: Layout = Layout::of::<Self>("Event");
}

// SAFETY: as said above.
unsafe impl ShmSafe for Barrier {
    const LAYOUT: Layout = Layout::of::<Self>("Barrier");
}

// SAFETY: as for `Mutex`. It lends shared references to its value.
unsafe impl<T: ShmSafe> ShmSafe for OnceLock<T> {
    const LAYOUT: Layout = Layout::around::<Self>("OnceLock", T::LAYOUT).locks();
}

// SAFETY: any number is valid.
unsafe impl Zeroable for Futex {}

// SAFETY: as above.
unsafe impl AnyBits for Futex {}

// SAFETY: zero bytes are a free lock, whose value is of zero bytes.
unsafe impl<T: Zeroable> Zeroable for Mutex<T> {}

// SAFETY: as for `Mutex`.
unsafe impl<T: Zeroable> Zeroable for ReentrantMutex<T> {}

// SAFETY: as for `Mutex`.
unsafe impl<T: Zeroable, const READERS: usize> Zeroable for RwLock<T, READERS> {}

// SAFETY: zero bytes are a new one.
unsafe impl Zeroable for Condvar {}

// SAFETY: zero bytes are a semaphore without permits.
unsafe impl Zeroable for Semaphore {}

// SAFETY: zero bytes are a semaphore with all its permits.
unsafe impl<const CAPACITY: usize> Zeroable for RobustSemaphore<CAPACITY> {}

// SAFETY: zero bytes are an event that is not set.
unsafe impl Zeroable for Event {}

// SAFETY: zero bytes are an empty cell for any type, because the bytes of the value are not read
// before it is set.
unsafe impl<T: ShmSafe> Zeroable for OnceLock<T> {}

/// The condition that `mp-sync` checks for the number of readers or permits when a lock is made.
const fn assert_slots(slots: usize) {
    assert!(
        slots > 0 && slots <= 128 && slots % 4 == 0,
        "the number of slots has to be a multiple of 4, and at most 128"
    );
}
