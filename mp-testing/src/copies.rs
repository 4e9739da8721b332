//! Copies of a process that `fork` makes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long a copy may run before it counts as hung.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs `body` in a copy of this process, and fails if it panics or hangs there.
#[track_caller]
pub fn in_copy(body: impl FnOnce()) {
    // SAFETY: the other threads of the tests that call this hold no lock that `body` needs.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        // It ends a copy that hangs. SAFETY: the function only sets a timer.
        unsafe { libc::alarm(LIMIT.as_secs() as u32) };
        let succeeded = catch_unwind(AssertUnwindSafe(body)).is_ok();
        // SAFETY: the function only ends the process.
        unsafe { libc::_exit(i32::from(!succeeded)) };
    }
    assert!(copy > 0, "{}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: the place is valid, and the process is a child of this one, which nothing else reaps.
    let reaped = unsafe { libc::waitpid(copy, &raw mut status, 0) };
    assert_eq!((reaped, status), (copy, 0), "the copy failed or hung");
}
