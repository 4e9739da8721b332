//! The [futex](https://man7.org/linux/man-pages/man2/futex.2.html): sleeping on a word of memory
//! until somebody changes it.
//!
//! Never with `FUTEX_PRIVATE_FLAG`: the word may be mapped by other processes, at other addresses.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::ClockId;

use crate::deadline::Deadline;

const EVERYBODY: NonZeroU32 = NonZeroU32::MAX;

/// Sleeps if the word is `expected`. Tells whether that was before the deadline; it may return
/// early without a reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> bool {
    // `wait_bitset` takes a point in time where `wait` takes a duration.
    match futex::wait_bitset(word, Flags::empty(), expected, deadline.timespec().as_ref(), EVERYBODY) {
        Err(Errno::TIMEDOUT) => false,
        // Woken; the word has changed; a signal came.
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(error) => failed("wait", error),
    }
}

/// How many words [`wait_any`] takes: `FUTEX_WAITV_MAX`.
pub(crate) const MOST: usize = 128;

/// The same for several words: sleeps if each is what it is expected to be. Where the kernel does
/// not know how (before Linux 5.16, or behind a filter of system calls), or has no memory for it,
/// it sleeps on the first word alone, and the others wake nobody.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> bool {
    let mut waits = [Wait::new(); MOST];
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = u64::from(*expected);
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
    }
    let waits = &waits[..words.len().min(MOST)];
    match futex::waitv(waits, WaitvFlags::empty(), deadline.timespec().as_ref(), ClockId::Monotonic) {
        Err(Errno::TIMEDOUT) => false,
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(Errno::NOSYS | Errno::PERM | Errno::NOMEM) => wait(words[0].0, words[0].1, deadline),
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

/// What is left are errors of this crate (a word that is not aligned or not mapped), and a filter
/// of system calls that forbids futexes, without which std's own locks do not work either.
#[cold]
fn failed(what: &str, error: Errno) -> ! {
    panic!("futex {what}: {error}");
}
