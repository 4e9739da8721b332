//! A condition variable: a number that every notification changes, and on which those who wait
//! sleep.
//!
//! # States
//!
//! `sequence` counts notifications that somebody may have waited for; `waiters` counts those who
//! wait, the dead among them included.
//!
//! # Invariants
//!
//! 1. Whoever waits has counted itself in `waiters` and read `sequence` while it had the mutex. Who
//!    changes what it waits for does so under the mutex and notifies afterwards: it either did that
//!    before the waiter looked, or it sees the waiter's count, changes the sequence, and the waiter
//!    does not fall asleep any more or is asleep and woken.
//! 2. `waiters` is never less than the number of those who sleep. A killed waiter leaves it too
//!    high for good, which costs each notification a system call and nothing else.
//! 3. Nobody's progress depends on another waiter: each waits for a change of the sequence only,
//!    and a wake-up is lost only with the waiter that was woken by it, or with the notifier.
//!
//! The sequence wraps: a waiter that is held up between reading it and falling asleep while exactly
//! 2³² notifications are made would miss them.
//!
//! # Orderings
//!
//! The mutex orders the count against the notifier's look at it, so relaxed would do for those who
//! notify after they have had it. Those who notify without it can promise themselves nothing.
//! Sequentially consistent costs nothing here and spares the argument.

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

/// Somebody who is about to wait.
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

    /// What is notified from here on concerns the caller, who has the mutex still.
    pub(crate) fn enter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, SeqCst);
        Waiter { condvar: self, sequence: self.sequence.load(SeqCst) }
    }

    /// Wakes that many of those who wait.
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
    /// Sleeps until it is notified, or the deadline has passed. It may be woken without a reason.
    pub(crate) fn wait(&self, deadline: Deadline) -> Slept {
        self.condvar.sequence.sleep_on(self.sequence, deadline)
    }

    /// The same, but for a while at most: for those who look whether what they wait for has come
    /// anyhow.
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
