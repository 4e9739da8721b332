//! The [futex](https://man7.org/linux/man-pages/man2/futex.2.html): sleeping on a word of memory until somebody changes it.
//!
//! Never with `FUTEX_PRIVATE_FLAG`: the word may be mapped by other processes, at other addresses.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use crate::deadline::Deadline;

const EVERYBODY: NonZeroU32 = NonZeroU32::MAX;

/// Sleeps if the word is `expected`. Tells whether that was before the deadline; it may return early without a reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> bool {
    // `wait_bitset` takes a point in time where `wait` takes a duration.
    match futex::wait_bitset(word, Flags::empty(), expected, deadline.timespec().as_ref(), EVERYBODY) {
        Err(Errno::TIMEDOUT) => false,
        // Woken; the word has changed; a signal came.
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(error) => failed("wait", error),
    }
}

/// Wakes that many sleepers, and tells how many there were.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    match futex::wake(word, Flags::empty(), count) {
        Ok(woken) => woken as u32,
        Err(error) => failed("wake", error),
    }
}

/// What is left are errors of this crate (a word that is not aligned or not mapped), and a filter of system calls that forbids futexes,
/// without which std's own locks do not work either.
#[cold]
fn failed(what: &str, error: Errno) -> ! {
    panic!("futex {what}: {error}");
}
