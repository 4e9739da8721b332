//! A flag to wait for.
//!
//! One word: the flag (bit 0), whether threads may sleep (bit 1), and how often the flag was set
//! (the other 30 bits).
//!
//! | state | `set` | `clear` | `wait` |
//! |---|---|---|---|
//! | not set, no sleepers | set, counted | | sets bit 1, sleeps |
//! | not set, perhaps sleepers | set, counted, bit 1 cleared; wakes all | | sleeps |
//! | set | | not set | returns |
//!
//! 1. The word changes only by read-modify-write. So every change after a `set` belongs to its
//!    release sequence, and a thread that acquires the word, set or cleared again, sees what was
//!    written before each `set` that the word counts.
//! 2. A sleeper sleeps on a word that has bit 1, is not set, and has the count that the sleeper saw
//!    first. The next `set` clears bit 1, counts, and then wakes all. The kernel compares the word
//!    and queues the sleeper in one step. So a sleeper is queued before that change, and woken, or
//!    it does not sleep.
//! 3. A waiter returns when the flag is set, or when the count has changed: then the flag was set
//!    meanwhile, even if it was cleared again.
//!
//! Orderings: `set` releases, and all reads acquire. `clear` does both: if one thread sets and
//! another clears in turns, the one that clears sees what the other wrote before it set.
//!
//! A killed process holds nothing. If it had set the flag but not woken the sleepers, they check
//! the word themselves a moment later. If it slept, bit 1 stays, and the next `set` makes one
//! system call that wakes no thread.
//!
//! The count wraps after 2³⁰. A waiter that is stopped while the flag is set exactly that often
//! waits for the next time.

use crate::deadline::Deadline;
use crate::primitive::{Futex, Ordering, Slept};
use crate::spin::Spin;

const SET: u32 = 1;
const WAITERS: u32 = 2;
/// Increments the count.
const ONCE: u32 = 4;

/// Zero bytes are an event that is not set.
#[repr(transparent)]
pub(crate) struct RawEvent {
    word: Futex,
}

impl RawEvent {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { word: Futex::new(0) }
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    pub(crate) fn set(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            // Written even if the flag is set already, so that threads that find it set see what
            // this thread did.
            let up = if word & SET == 0 { (word & !WAITERS).wrapping_add(ONCE) | SET } else { word };
            match self.word.compare_exchange_weak(word, up, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & (SET | WAITERS) == WAITERS {
            self.word.wake_all();
        }
    }

    pub(crate) fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// Waits until the flag is set, and tells whether it was set between the call and the deadline.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        self.wait_since(self.word.load(Ordering::Acquire), deadline)
    }

    /// Does the same, beginning when the word was `first`.
    fn wait_since(&self, first: u32, deadline: Deadline) -> bool {
        let has_been_up = |word: u32| word & SET != 0 || (word ^ first) & !(ONCE - 1) != 0;
        if has_been_up(first) || deadline == Deadline::PASSED {
            return has_been_up(first);
        }
        let mut spin = Spin::patient();
        while spin.again() {
            if has_been_up(self.word.load(Ordering::Acquire)) {
                return true;
            }
        }
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if has_been_up(word) {
                return true;
            }
            if word & WAITERS == 0 {
                let with = word | WAITERS;
                match self.word.compare_exchange_weak(word, with, Ordering::Acquire, Ordering::Acquire) {
                    Ok(_) => word = with,
                    Err(now) => {
                        word = now;
                        continue;
                    }
                }
            }
            let slept = self.word.sleep(word, deadline);
            word = self.word.load(Ordering::Acquire);
            if slept == Slept::Late {
                return has_been_up(word);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    /// An event and the data that it announces.
    struct Told {
        event: RawEvent,
        what: UnsafeCell<u32>,
    }

    impl Told {
        fn new() -> Arc<Self> {
            Arc::new(Self { event: RawEvent::new(), what: UnsafeCell::new(0) })
        }

        fn write(&self) {
            // SAFETY: no thread reads or writes it before the event was set, which loom checks.
            self.what.with_mut(|what| unsafe { *what += 1 });
        }

        fn read(&self) -> u32 {
            // SAFETY: no thread writes it after the event was set, which loom checks.
            self.what.with(|what| unsafe { *what })
        }
    }

    #[test]
    fn all_who_wait_are_woken_and_see_what_was_written_before() {
        model(|| {
            let told = Told::new();
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let told = told.clone();
                    thread::spawn(move || {
                        assert!(told.event.wait(Deadline::NEVER));
                        assert_eq!(told.read(), 1);
                    })
                })
                .collect();
            told.write();
            told.event.set();
            for waiter in waiters {
                waiter.join().unwrap();
            }
        });
    }

    #[test]
    fn who_waits_is_not_lost_when_the_event_is_cleared_at_once() {
        model(|| {
            let told = Told::new();
            let other = told.clone();
            let first = told.event.word.load(Ordering::Relaxed);
            let waiter = thread::spawn(move || {
                assert!(other.event.wait_since(first, Deadline::NEVER));
                assert_eq!(other.read(), 1);
            });
            told.write();
            told.event.set();
            told.event.clear();
            waiter.join().unwrap();
        });
    }

    #[test]
    fn many_changes_at_once_lose_nobody() {
        model(|| {
            let told = Told::new();
            let first = told.event.word.load(Ordering::Relaxed);
            let [other, third] = [told.clone(), told.clone()];
            let waiter = thread::spawn(move || assert!(other.event.wait_since(first, Deadline::NEVER)));
            let setter = thread::spawn(move || {
                third.event.set();
                third.event.clear();
            });
            told.event.set();
            setter.join().unwrap();
            waiter.join().unwrap();
            let count = told.event.word.load(Ordering::Relaxed) / ONCE;
            assert!(count == 1 || count == 2, "{count}");
        });
    }

    #[test]
    fn a_wait_that_is_late_tells_what_it_saw_last() {
        model(|| {
            let told = Told::new();
            let other = told.clone();
            let setter = thread::spawn(move || {
                other.write();
                other.event.set();
            });
            if told.event.wait(Deadline::after(std::time::Duration::from_secs(1))) {
                assert_eq!(told.read(), 1);
            }
            setter.join().unwrap();
            assert!(told.event.wait(Deadline::PASSED));
        });
    }
}
