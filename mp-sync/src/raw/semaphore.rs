//! A number of permits, and a queue for those who find none.
//!
//! `state` is, from its lowest bit: the permits that are left (32), how many wait for one (22: as
//! many as Linux has threads), and an epoch (10). `wakes` counts the wake-ups, and is what the
//! waiters sleep on. `missing` is what the bound lacks to the highest number.
//!
//! | who | does, in one step each |
//! |---|---|
//! | acquires, and there are permits | takes one, and is no longer counted if it was |
//! | finds none | is counted, unless it is in this epoch already; sleeps on `wakes` as it was before |
//! | releases | adds permits; if somebody waits: counts on `wakes`, wakes one sleeper for each |
//! | is late | takes one if there is one after all, and is no longer counted |
//! | heals | begins an epoch, in which nobody is counted; counts on `wakes`, wakes all |
//!
//! 1. Permits are only made by a release, within the bound, and each is taken once: both are a
//!    compare-exchange of the whole state.
//! 2. Whoever sleeps has read `wakes`, and after that a state without permits in whose epoch it is
//!    counted. A release that comes after that state finds it counted and changes `wakes`; so it
//!    does not sleep, or is in the queue when sleepers are woken. Whoever is woken, or finds
//!    `wakes` changed, looks at the state before it sleeps again.
//! 3. A release of n permits wakes n sleepers, or all if there are fewer, and whoever takes a
//!    permit without having slept leaves a woken one to count itself again. So as long as all live,
//!    nobody sleeps while there are permits that no woken one is on its way to.
//! 4. Nobody takes off the count what it did not put there: it remembers the epoch.
//!
//! Orderings: whoever takes a permit acquires the state, whoever adds one releases it, and all
//! changes are read-modify-writes, which pass on what was released before. `wakes` is acquired
//! before the state is read and released after it was changed: whoever sees the new count sees the
//! permits too.
//!
//! A process that is killed leaves the permits that it has taken taken. If it waited it stays
//! counted, and each release makes a system call in vain, until one in [`HEAL_EVERY`] of those
//! begins a new epoch. If it was killed between adding permits and waking, or was woken and did not
//! come to take one, a sleeper finds them when it looks for itself, a moment later.
//!
//! An epoch comes back after 1024. A waiter that was stopped meanwhile, for exactly that many,
//! would take another off the count, who then looks for itself only.

use crate::deadline::Deadline;
use crate::primitive::{AtomicU32, AtomicU64, Futex, Ordering, Slept};
use crate::spin::Spin;

const PERMITS: u64 = u32::MAX as u64;
/// One who waits.
const WAITER: u64 = 1 << 32;
const WAITERS: u64 = ((1 << 22) - 1) << 32;
const EPOCH: u64 = 1 << 54;

/// How many wake-ups there are from one that may heal to the next. A wake-up can be in vain because
/// those who wait are not asleep yet.
const HEAL_EVERY: u32 = if cfg!(loom) { 1 } else { 16 };

/// All-zero bytes are one without permits and without a bound.
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

    /// Adds permits, all or, if that would be more than the bound, none.
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

    /// Forgets who waits. Those who live count themselves again.
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

    /// Tells whether it has taken a permit before the deadline.
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
                    // More than there can be: what stands there is damaged. It may begin again.
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

    /// Takes a permit for one that is counted in that epoch, or gives a state in which there was
    /// none.
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

/// The state without one that is counted in that epoch.
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

    /// A number that its one permit protects.
    struct Protected {
        semaphore: RawSemaphore,
        number: UnsafeCell<u32>,
    }

    impl Protected {
        fn new(permits: u32) -> Arc<Self> {
            Arc::new(Self { semaphore: RawSemaphore::new(permits, 1), number: UnsafeCell::new(0) })
        }

        fn add(&self) {
            // SAFETY: there is one permit and this thread has it, which loom checks.
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
