//! Whether there is a second processor, on which the other thread can run.

use std::sync::atomic::{AtomicU32, Ordering};

/// Tells whether this process may use several processors. It is read once, because a later change
/// only affects the speed.
pub(crate) fn several() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut count = COUNT.load(Ordering::Relaxed);
    if count == 0 {
        count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()).max(1);
        COUNT.store(count, Ordering::Relaxed);
    }
    count > 1
}
