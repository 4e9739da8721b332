//! Whether this process is a copy of the one that it was.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn was_forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Counts the calls of `fork` between the first process that called this and this one: in a copy
/// of a process the number is another than it was.
///
/// A copy that the system call `clone` makes without the C library is not noticed.
pub fn forks() -> u32 {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        // It fails for lack of memory alone, and then nothing is noticed. SAFETY: the function
        // changes an atomic, which may be done in the child of a fork.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(was_forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}
