//! The [futex](https://man7.org/linux/man-pages/man2/futex.2.html): sleeping on a word of memory
//! until another thread changes it.
//!
//! It never uses `FUTEX_PRIVATE_FLAG`, because other processes may have mapped the word at other
//! addresses.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::ClockId;

use crate::deadline::Deadline;

const EVERYBODY: NonZeroU32 = NonZeroU32::MAX;

/// Sleeps if the word is `expected`. Returns false after the deadline. It may return early without
/// a reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> bool {
    // `wait_bitset` takes a point in time, and `wait` a duration.
    match futex::wait_bitset(word, Flags::empty(), expected, deadline.timespec().as_ref(), EVERYBODY) {
        Err(Errno::TIMEDOUT) => false,
        // It was woken, the word has changed, or a signal arrived.
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(error) => failed("wait", error),
    }
}

/// The greatest number of words for [`wait_any`]: `FUTEX_WAITV_MAX`.
pub(crate) const MOST: usize = 128;

/// Does the same for several words: sleeps if each has its expected value. If the kernel cannot do
/// that (before Linux 5.16, behind a filter of system calls, or without memory), it sleeps on the
/// first word only, and changes of the others do not wake it.
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

/// Wakes up to `count` sleepers, and returns how many it woke.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    match futex::wake(word, Flags::empty(), count) {
        Ok(woken) => woken as u32,
        Err(error) => failed("wake", error),
    }
}

/// The remaining errors are bugs of this crate (a word that is not aligned or not mapped), or a
/// filter of system calls that forbids futexes, which std's own locks need as well.
#[cold]
fn failed(what: &str, error: Errno) -> ! {
    panic!("futex {what}: {error}");
}
