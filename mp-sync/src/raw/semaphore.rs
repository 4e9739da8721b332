//! A number of permits, and a queue for threads that find none.
//!
//! `state` contains, from its lowest bit: the free permits (32 bits), the number of waiters (22,
//! for the greatest number of threads in Linux), and an epoch (10). `wakes` counts the wake-ups,
//! and the waiters sleep on it. `missing` is the difference between `u32::MAX` and the bound.
//!
//! | a thread that | does, in one step each |
//! |---|---|
//! | acquires, and there are permits | takes one, and is no longer counted |
//! | finds none | counts itself, unless it is counted in this epoch; sleeps on the earlier value of `wakes` |
//! | releases | adds permits; if there are waiters: increments `wakes`, wakes one sleeper for each permit |
//! | is late | takes one if there is one now, and is no longer counted |
//! | heals | begins an epoch, in which no thread is counted; increments `wakes`, wakes all |
//!
//! 1. Only a release makes permits, within the bound, and each permit is taken once: both are a
//!    compare-exchange of the whole state.
//! 2. A sleeper has read `wakes`, and after that a state without permits in whose epoch it is
//!    counted. A later release sees it counted and changes `wakes`. So the sleeper does not fall
//!    asleep, or it is in the queue when sleepers are woken. A thread that is woken, or finds
//!    `wakes` changed, reads the state before it sleeps again.
//! 3. A release of n permits wakes n sleepers, or all if there are fewer. If a thread that did not
//!    sleep takes a permit, a woken one counts itself again. So while all threads live, none sleeps
//!    while there are permits that no woken thread is about to take.
//! 4. A thread only subtracts from the count what it added: it remembers the epoch.
//!
//! Orderings: taking a permit acquires the state, and adding one releases it. All changes are
//! read-modify-writes, which keep the release sequence. `wakes` is acquired before the state is
//! read, and released after the state was changed, so a thread that sees the new count also sees
//! the permits.
//!
//! The permits of a killed process stay taken. If it waited, it stays counted, and each release
//! makes a useless system call, until one in [`HEAL_EVERY`] of those begins a new epoch. If it was
//! killed between adding permits and waking, or between being woken and taking one, a sleeper finds
//! the permits when it checks the state itself, a moment later.
//!
//! The epoch wraps after 1024. A waiter that is stopped while exactly that many pass would subtract
//! another waiter from the count. That one then depends on checking the state itself.

use crate::deadline::Deadline;
use crate::primitive::{AtomicU32, AtomicU64, Futex, Ordering, Slept};
use crate::spin::Spin;

const PERMITS: u64 = u32::MAX as u64;
/// One waiter.
const WAITER: u64 = 1 << 32;
const WAITERS: u64 = ((1 << 22) - 1) << 32;
const EPOCH: u64 = 1 << 54;

/// One in this many useless wake-ups heals. Not each of them does, because a wake-up is also
/// useless if the waiters are not asleep yet.
const HEAL_EVERY: u32 = if cfg!(loom) { 1 } else { 16 };

/// Zero bytes are a semaphore without permits and without a bound.
#[repr(C)]
pub(crate) struct RawSemaphore {
    state: AtomicU64,
    wakes: Futex,
    missing: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawSemaphore>() == 16 && align_of::<RawSemaphore>() == 8);
    assert!(std::mem::offset_of!(RawSemaphore, state) == 0);
    assert!(std::mem::offset_of!(RawSemaphore, wakes) == 8);
    assert!(std::mem::offset_of!(RawSemaphore, missing) == 12);
};

impl RawSemaphore {
    const_fn! {
        pub(crate) fn new(permits: u32, bound: u32) -> Self {
            Self { state: AtomicU64::new(permits as u64), wakes: Futex::new(0), missing: AtomicU32::new(u32::MAX - bound) }
        }
    }

    pub(crate) fn permits(&self) -> u32 {
        self.state.load(Ordering::Acquire) as u32
    }

    pub(crate) fn bound(&self) -> u32 {
        u32::MAX - self.missing.load(Ordering::Relaxed)
    }

    pub(crate) fn try_acquire(&self) -> bool {
        self.take(None).is_ok()
    }

    /// Adds all permits, or none if they would exceed the bound.
    pub(crate) fn release(&self, count: u32) -> bool {
        if count == 0 {
            return true;
        }
        let bound = self.bound();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if (state as u32).checked_add(count).is_none_or(|permits| permits > bound) {
                return false;
            }
            let more = state + u64::from(count);
            match self.state.compare_exchange_weak(state, more, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        if state & WAITERS != 0 {
            self.wake(count);
        }
        true
    }

    #[cold]
    fn wake(&self, count: u32) {
        let wakes = self.wakes.fetch_add(1, Ordering::Release);
        let woken = self.wakes.wake(count.min(i32::MAX as u32));
        if woken == 0 && wakes % HEAL_EVERY == 0 {
            self.heal();
        }
    }

    /// Removes all waiters from the count. The living ones count themselves again.
    fn heal(&self) {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & WAITERS != 0 {
            let healed = (state & !WAITERS).wrapping_add(EPOCH);
            match self.state.compare_exchange_weak(state, healed, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.wakes.fetch_add(1, Ordering::Release);
                    self.wakes.wake_all();
                    return;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Waits for a permit, and tells whether it took one before the deadline.
    pub(crate) fn acquire(&self, deadline: Deadline) -> bool {
        self.try_acquire() || (deadline != Deadline::PASSED && self.acquire_slowly(deadline))
    }

    #[cold]
    fn acquire_slowly(&self, deadline: Deadline) -> bool {
        let mut spin = Spin::brief();
        while spin.again() {
            if self.state.load(Ordering::Relaxed) & PERMITS != 0 && self.try_acquire() {
                return true;
            }
        }
        // The epoch in which this thread is counted.
        let mut counted = None;
        loop {
            let wakes = self.wakes.load(Ordering::Acquire);
            let Err(mut state) = self.take(counted) else { return true };
            if counted != Some(state / EPOCH) {
                if state & WAITERS == WAITERS {
                    // No system has so many threads, so another process has damaged the count.
                    // Start it again.
                    self.heal();
                    continue;
                }
                match self.state.compare_exchange(state, state + WAITER, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => counted = Some(state / EPOCH),
                    Err(_) => continue,
                }
            }
            if self.wakes.sleep(wakes, deadline) == Slept::Late {
                loop {
                    match self.take(counted) {
                        Ok(()) => return true,
                        Err(now) => state = now,
                    }
                    let left = leave(state, counted);
                    if left == state
                        || self.state.compare_exchange(state, left, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                    {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes a permit for a waiter that is counted in the epoch `counted`, or returns a state
    /// without permits.
    fn take(&self, counted: Option<u64>) -> Result<(), u64> {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & PERMITS != 0 {
            let taken = leave(state, counted) - 1;
            match self.state.compare_exchange_weak(state, taken, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
        Err(state)
    }
}

/// Returns the state without a waiter that is counted in the epoch `counted`.
fn leave(state: u64, counted: Option<u64>) -> u64 {
    if counted == Some(state / EPOCH) && state & WAITERS != 0 { state - WAITER } else { state }
}

#[cfg(all(test, loom))]
mod tests {
    use std::time::Duration;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    /// A number that the one permit protects.
    struct Protected {
        semaphore: RawSemaphore,
        number: UnsafeCell<u32>,
    }

    impl Protected {
        fn new(permits: u32) -> Arc<Self> {
            Arc::new(Self { semaphore: RawSemaphore::new(permits, 1), number: UnsafeCell::new(0) })
        }

        fn add(&self) {
            // SAFETY: there is one permit, and this thread has it, which loom checks.
            self.number.with_mut(|number| unsafe { *number += 1 });
        }
    }

    fn waiters(semaphore: &RawSemaphore) -> u64 {
        semaphore.state.load(Ordering::Relaxed) & WAITERS
    }

    #[test]
    fn one_permit_is_a_lock() {
        model(|| {
            let protected = Protected::new(1);
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let protected = protected.clone();
                    thread::spawn(move || {
                        assert!(protected.semaphore.acquire(Deadline::NEVER));
                        protected.add();
                        assert!(protected.semaphore.release(1));
                    })
                })
                .collect();
            assert!(protected.semaphore.acquire(Deadline::NEVER));
            protected.add();
            assert!(protected.semaphore.release(1));
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(protected.semaphore.permits(), 1);
            assert_eq!(waiters(&protected.semaphore), 0);
        });
    }

    #[test]
    fn permits_that_are_released_together_reach_all_who_wait() {
        model(|| {
            let semaphore = Arc::new(RawSemaphore::new(0, u32::MAX));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let semaphore = semaphore.clone();
                    thread::spawn(move || assert!(semaphore.acquire(Deadline::NEVER)))
                })
                .collect();
            assert!(semaphore.release(2));
            for other in others {
                other.join().unwrap();
            }
            assert_eq!((semaphore.permits(), waiters(&semaphore)), (0, 0));
        });
    }

    #[test]
    fn permits_that_are_released_one_by_one_reach_all_who_wait() {
        model(|| {
            let semaphore = Arc::new(RawSemaphore::new(0, u32::MAX));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let semaphore = semaphore.clone();
                    thread::spawn(move || assert!(semaphore.acquire(Deadline::NEVER)))
                })
                .collect();
            assert!(semaphore.release(1));
            assert!(semaphore.release(1));
            for other in others {
                other.join().unwrap();
            }
            assert_eq!((semaphore.permits(), waiters(&semaphore)), (0, 0));
        });
    }

    #[test]
    fn one_that_is_late_takes_nothing_from_another() {
        model(|| {
            let semaphore = Arc::new(RawSemaphore::new(0, u32::MAX));
            let [other, late] = [semaphore.clone(), semaphore.clone()];
            let other = thread::spawn(move || assert!(other.acquire(Deadline::NEVER)));
            let late = thread::spawn(move || {
                if late.acquire(Deadline::after(Duration::from_secs(1))) {
                    assert!(late.release(1));
                }
            });
            assert!(semaphore.release(1));
            other.join().unwrap();
            late.join().unwrap();
            assert_eq!((semaphore.permits(), waiters(&semaphore)), (0, 0));
        });
    }

    #[test]
    fn healing_for_a_dead_waiter_loses_no_live_one() {
        model(|| {
            let semaphore = Arc::new(RawSemaphore::new(0, u32::MAX));
            semaphore.state.fetch_add(WAITER, Ordering::Relaxed);
            let other = semaphore.clone();
            let waiter = thread::spawn(move || assert!(other.acquire(Deadline::NEVER)));
            let third = semaphore.clone();
            let healer = thread::spawn(move || third.heal());
            assert!(semaphore.release(1));
            waiter.join().unwrap();
            healer.join().unwrap();
            assert_eq!((semaphore.permits(), waiters(&semaphore)), (0, 0));
        });
    }
}
