//! A flag that can be waited for.
//!
//! One word: the flag (bit 0), whether somebody may sleep (bit 1), and how often the flag has gone
//! up (the other 30).
//!
//! | state | `set` | `clear` | `wait` |
//! |---|---|---|---|
//! | down, nobody sleeps | up, counted | | says that it may sleep, sleeps |
//! | down, somebody may sleep | up, counted, nobody sleeps any more: wakes all | | sleeps |
//! | up | | down | returns |
//!
//! 1. The word is changed by read-modify-write only. So every change after a `set` belongs to its
//!    release sequence, and whoever acquires the word, up or down again, sees what was written
//!    before each `set` that it counts.
//! 2. Whoever sleeps does so over a word with bit 1, down, and with the count that it saw first.
//!    That bit is taken away by the `set` that counts on, which then wakes all. The kernel compares
//!    the word and queues the sleeper in one step, so a sleeper is queued before that change, and
//!    woken, or it does not sleep.
//! 3. A waiter returns when the flag is up, or when the count is another than at first: it has been
//!    up meanwhile, whoever cleared it since.
//!
//! Orderings: `set` releases, all that look acquire. `clear` does both: of two that set and clear
//! in turns, the one that has cleared sees what the other wrote before it set.
//!
//! A process that is killed holds nothing. If it has set and not woken yet, the sleepers look for
//! themselves a moment later. If it slept, bit 1 stays, and the next `set` wakes nobody, which
//! costs a system call once.
//!
//! The count returns to where it was after 2³⁰ times. A waiter that was stopped meanwhile, for
//! exactly that many, waits for the next.

use crate::deadline::Deadline;
use crate::primitive::{Futex, Ordering, Slept};
use crate::spin::Spin;

const SET: u32 = 1;
const WAITERS: u32 = 2;
/// One more time that the flag has gone up.
const ONCE: u32 = 4;

/// All-zero bytes are one whose flag is down.
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
            // Also written where it is up already, so that what this thread has done is seen by
            // those who find it up.
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

    /// Tells whether the flag is up, or was since the call, before the deadline.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        self.wait_since(self.word.load(Ordering::Acquire), deadline)
    }

    /// The same since the word was `first`.
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

    /// An event and what it tells of.
    struct Told {
        event: RawEvent,
        what: UnsafeCell<u32>,
    }

    impl Told {
        fn new() -> Arc<Self> {
            Arc::new(Self { event: RawEvent::new(), what: UnsafeCell::new(0) })
        }

        fn write(&self) {
            // SAFETY: nobody reads or writes it before the event was set, which loom checks.
            self.what.with_mut(|what| unsafe { *what += 1 });
        }

        fn read(&self) -> u32 {
            // SAFETY: nobody writes it any more once the event was set, which loom checks.
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
