//! The locks of `mp-sync`, which are made to be in shared memory.
//!
//! Of all of them is true: they are atomics and numbers, without pointers that are followed, and
//! work in any number of processes and at any address. They have nothing to do when dropped but to
//! drop their value, for which there is nothing to do either. All-zero bytes are a new lock, with a
//! value of zero bytes, except for a barrier.

use mp_sync::futex::Futex;
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};

use super::ShmSafe;
use crate::Layout;

// SAFETY: as said above; the value is lent to whoever has the lock, in whatever process.
unsafe impl<T: ShmSafe> ShmSafe for Mutex<T> {
    const LAYOUT: Layout = Layout::around::<Self>("Mutex", T::LAYOUT);
}

// SAFETY: as for `Mutex`.
unsafe impl<T: ShmSafe> ShmSafe for ReentrantMutex<T> {
    const LAYOUT: Layout = Layout::around::<Self>("ReentrantMutex", T::LAYOUT);
}

// SAFETY: as for `Mutex`; that there can be a lock with so many readers is asserted before anything
// is said of its bytes, because zeros would be one without having been made by its `new`.
unsafe impl<T: ShmSafe, const READERS: usize> ShmSafe for RwLock<T, READERS> {
    const LAYOUT: Layout = {
        assert_slots(READERS);
        Layout::around::<Self>("RwLock", T::LAYOUT)
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

// SAFETY: as said above; zeros are a semaphore without permits.
unsafe impl ShmSafe for Semaphore {
    const LAYOUT: Layout = Layout::of::<Self>("Semaphore").zeroable();
}

// SAFETY: as said above, and that there can be a semaphore with that room is asserted, as for
// `RwLock`. Zeros are one with all its permits.
unsafe impl<const CAPACITY: usize> ShmSafe for RobustSemaphore<CAPACITY> {
    const LAYOUT: Layout = {
        assert_slots(CAPACITY);
        Layout::of::<Self>("RobustSemaphore").zeroable()
    };
}

// SAFETY: as said above.
unsafe impl ShmSafe for Event {
    const LAYOUT: Layout = Layout::of::<Self>("Event").zeroable();
}

// SAFETY: as said above. It has to know how many meet, so zeros are no barrier.
unsafe impl ShmSafe for Barrier {
    const LAYOUT: Layout = Layout::of::<Self>("Barrier");
}

// SAFETY: as said above. Zeros are a cell without a value, for any value: the bytes for it are not
// looked at before it is there.
unsafe impl<T: ShmSafe> ShmSafe for OnceLock<T> {
    const LAYOUT: Layout = Layout::around::<Self>("OnceLock", T::LAYOUT).zeroable();
}

/// What `mp-sync` asserts of the number of readers or permits when a lock is made.
const fn assert_slots(slots: usize) {
    assert!(slots > 0 && slots <= 128 && slots % 4 == 0, "the number of slots is a multiple of 4, and 128 at most");
}
