//! A condition variable: a number that every notification changes, and on which waiters sleep.
//!
//! # States
//!
//! `sequence` counts the notifications for which a thread may have waited. `waiters` counts the
//! waiters, even dead ones.
//!
//! # Invariants
//!
//! 1. A waiter has incremented `waiters` and read `sequence` while it held the mutex. A notifier
//!    changes the state under the mutex and notifies after that. Either it changed the state before
//!    the waiter checked it, or it sees the waiter in `waiters` and changes `sequence`. Then the
//!    waiter does not fall asleep, or it is asleep and woken.
//! 2. `waiters` is never less than the number of sleepers. A killed waiter leaves it permanently
//!    too high, which only costs each notification a system call.
//! 3. No waiter depends on another one: each waits only for a change of the sequence. A wake-up is
//!    lost only with the waiter that it woke, or with the notifier.
//!
//! The sequence wraps: a waiter that is stopped between reading it and falling asleep, while
//! exactly 2³² notifications are made, would miss them.
//!
//! # Orderings
//!
//! The mutex orders the increment of `waiters` and the notifier's read of it. So relaxed would be
//! enough for a notifier that has held the mutex, and one that has not gets no guarantee.
//! Sequential consistency costs nothing here and needs no such argument.

use crate::deadline::Deadline;
use crate::primitive::Ordering::SeqCst;
use crate::primitive::{AtomicU32, Futex, Slept};

#[repr(C)]
pub(crate) struct RawCondvar {
    sequence: Futex,
    waiters: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawCondvar>() == 8);

/// A thread that is about to wait.
pub(crate) struct Waiter<'a> {
    condvar: &'a RawCondvar,
    sequence: u32,
}

impl RawCondvar {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { sequence: Futex::new(0), waiters: AtomicU32::new(0) }
        }
    }

    /// Begins a wait. Notifications from here on concern the caller, which still holds the mutex.
    pub(crate) fn enter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, SeqCst);
        Waiter { condvar: self, sequence: self.sequence.load(SeqCst) }
    }

    /// Wakes `count` waiters.
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        if self.waiters.load(SeqCst) != 0 && count != 0 {
            self.notify_waiters(count);
        }
    }

    #[cold]
    fn notify_waiters(&self, count: u32) {
        self.sequence.fetch_add(1, SeqCst);
        self.sequence.wake(count);
    }
}

impl Waiter<'_> {
    /// Sleeps until it is notified or the deadline has passed. It may wake without a reason.
    pub(crate) fn wait(&self, deadline: Deadline) -> Slept {
        self.condvar.sequence.sleep_on(self.sequence, deadline)
    }

    /// Does the same, but only for a while, for waiters that check their condition themselves.
    pub(crate) fn wait_a_while(&self, deadline: Deadline) -> Slept {
        self.condvar.sequence.sleep(self.sequence, deadline)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.condvar.waiters.fetch_sub(1, SeqCst);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;
    use crate::raw::mutex::RawMutex;

    struct Gate {
        mutex: RawMutex,
        condvar: RawCondvar,
        open: AtomicU32,
    }

    impl Gate {
        fn pass(&self) {
            self.mutex.lock(Deadline::NEVER).unwrap();
            while self.open.load(SeqCst) == 0 {
                let waiter = self.condvar.enter();
                self.mutex.unlock();
                waiter.wait(Deadline::NEVER);
                drop(waiter);
                self.mutex.lock(Deadline::NEVER).unwrap();
            }
            self.open.fetch_sub(1, SeqCst);
            self.mutex.unlock();
        }

        fn open(&self, for_how_many: u32) {
            self.mutex.lock(Deadline::NEVER).unwrap();
            self.open.fetch_add(for_how_many, SeqCst);
            self.mutex.unlock();
        }
    }

    fn check(opens: impl Fn(&Gate) + Sync + Send + Copy + 'static, passes: usize) {
        model(move || {
            let gate = Arc::new(Gate { mutex: RawMutex::new(), condvar: RawCondvar::new(), open: AtomicU32::new(0) });
            let others: Vec<_> = (0..passes)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    thread::spawn(move || gate.pass())
                })
                .collect();
            opens(&gate);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(gate.condvar.waiters.load(SeqCst), 0);
        });
    }

    #[test]
    fn no_notification_of_one_is_lost() {
        let open_and_notify = |gate: &Gate| {
            gate.open(1);
            gate.condvar.notify(1);
        };
        check(open_and_notify, 1);
        check(
            move |gate| {
                open_and_notify(gate);
                open_and_notify(gate);
            },
            2,
        );
    }

    #[test]
    fn no_notification_of_all_is_lost() {
        check(
            |gate| {
                gate.open(2);
                gate.condvar.notify(u32::MAX);
            },
            2,
        );
    }
}
