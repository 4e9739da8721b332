//! The processor's atomics and the kernel's futex.

use std::time::Duration;

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Slept;
use crate::deadline::Deadline;
use crate::sys::futex;
pub(crate) use crate::sys::robust::{Link, Thread};

/// The longest sleep before the sleeper checks the word itself.
const RECHECK: Duration = Duration::from_millis(100);

/// A word of shared memory on which threads of all processes can sleep: an [`AtomicU32`] with the
/// kernel's [futex](https://man7.org/linux/man-pages/man2/futex.2.html). Zero bytes are a futex of
/// value 0.
///
/// # Process death
///
/// If a process dies after it changed the word and before it woke the sleepers, that wake-up is
/// lost. So a [`sleep`](Self::sleep) lasts at most 100 ms. The caller then checks the word and
/// sleeps again.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::Ordering;
///
/// use mp_sync::futex::{Deadline, Futex};
///
/// static READY: Futex = Futex::new(0);
///
/// std::thread::spawn(|| {
///     READY.store(1, Ordering::Release);
///     READY.wake(1);
/// });
/// while READY.load(Ordering::Acquire) == 0 {
///     READY.sleep(0, Deadline::NEVER);
/// }
/// ```
#[repr(transparent)]
pub struct Futex(AtomicU32);

impl std::ops::Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

impl Futex {
    /// Makes a word with this value.
    pub const fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    /// Sleeps while the word is `expected`, until it is woken, for at most 100 ms, or until the
    /// deadline. It may return [`Slept::Awake`] without a reason.
    pub fn sleep(&self, expected: u32, deadline: Deadline) -> Slept {
        let recheck = Deadline::after(RECHECK);
        if deadline <= recheck {
            return self.sleep_on(expected, deadline);
        }
        self.sleep_on(expected, recheck);
        Slept::Awake
    }

    /// Does the same, without checking the word in between, for a wake-up that may be lost with the
    /// process that sends it.
    pub(crate) fn sleep_on(&self, expected: u32, deadline: Deadline) -> Slept {
        if futex::wait(&self.0, expected, deadline) { Slept::Awake } else { Slept::Late }
    }

    /// Sleeps like [`sleep`](Self::sleep) on one to [`futex::MOST`] words, while each has its
    /// expected value.
    pub(crate) fn sleep_any(words: &[(&Self, u32)], deadline: Deadline) -> Slept {
        let Some(((first, expected), rest)) = words.split_first() else { return Slept::Awake };
        let mut plain = [(&first.0, *expected); futex::MOST];
        for (plain, (word, expected)) in plain[1..].iter_mut().zip(rest) {
            *plain = (&word.0, *expected);
        }
        let plain = &plain[..words.len().min(futex::MOST)];
        let recheck = Deadline::after(RECHECK);
        if deadline <= recheck {
            return if futex::wait_any(plain, deadline) { Slept::Awake } else { Slept::Late };
        }
        futex::wait_any(plain, recheck);
        Slept::Awake
    }

    /// Wakes at most `count` sleepers, and returns how many it woke.
    pub fn wake(&self, count: u32) -> u32 {
        futex::wake(&self.0, count)
    }

    /// Wakes every sleeper, and returns how many there were.
    pub fn wake_all(&self) -> u32 {
        self.wake(i32::MAX as u32)
    }
}
