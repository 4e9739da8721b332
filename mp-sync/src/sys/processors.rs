//! Whether there is a second processor for the one who is waited for.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether this process may use several processors. Asked once: a change later costs speed only.
pub(crate) fn several() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut count = COUNT.load(Ordering::Relaxed);
    if count == 0 {
        count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()).max(1);
        COUNT.store(count, Ordering::Relaxed);
    }
    count > 1
}
