//! A value that is written once: whether it exists, and which thread may write it.
//!
//! # States
//!
//! | `state` | |
//! |---|---|
//! | 0 | no value |
//! | `WAITERS` | no value, and perhaps sleepers that wait for it |
//! | `READY` | the value exists, permanently |
//!
//! # Invariants
//!
//! 1. Only the thread that holds the mutex `writers`, and has seen since then that there is no
//!    value, writes the value and sets `READY`. If it dies or panics before that, the next owner of
//!    the mutex finds no value and begins again. So it does not matter what the mutex says about a
//!    dead owner.
//! 2. A sleeper saw `WAITERS` in `state` when it fell asleep. The thread that sets `READY` removes
//!    `WAITERS` and wakes all sleepers. (If it dies in between, they check the state themselves:
//!    `primitive`.)
//! 3. After `READY` nothing changes.
//!
//! # Orderings
//!
//! Reading `READY` acquires the value that was released with it.

use super::mutex::{RawMutex, Refused};
use crate::deadline::Deadline;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{Futex, Slept};
use crate::spin::Spin;

const READY: u32 = 1;
const WAITERS: u32 = 2;

#[repr(C)]
pub(crate) struct RawOnce {
    state: Futex,
    reserved: u32,
    writers: RawMutex,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawOnce>() == 48 && align_of::<RawOnce>() == 8);

/// The right to write the value. Dropping it lets another thread write.
pub(crate) struct Writer<'a>(&'a RawOnce);

impl RawOnce {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { state: Futex::new(0), reserved: 0, writers: RawMutex::new() }
        }
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Acquire) & READY != 0
    }

    /// Waits for the right to write the value. Returns `None` if there is a value, perhaps by the
    /// previous writer.
    pub(crate) fn begin(&self) -> Result<Option<Writer<'_>>, Refused> {
        if self.is_ready() {
            return Ok(None);
        }
        self.writers.lock(Deadline::NEVER)?;
        let writer = Writer(self);
        Ok((!self.is_ready()).then_some(writer))
    }

    /// Waits until there is a value, and tells whether there is.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut spin = Spin::brief();
        let mut late = deadline == Deadline::PASSED;
        loop {
            let state = self.state.load(Acquire);
            if state & READY != 0 || late {
                return state & READY != 0;
            }
            // Any other value that another process wrote there.
            let announced = state | WAITERS;
            let is_announced = state == announced
                || (!spin.again() && self.state.compare_exchange(state, announced, Relaxed, Relaxed).is_ok());
            if !is_announced {
                continue;
            }
            late = self.state.sleep(announced, deadline) == Slept::Late;
        }
    }
}

impl Writer<'_> {
    /// Records that the value was written.
    pub(crate) fn finish(self) {
        if self.0.state.swap(READY, Release) & WAITERS != 0 {
            self.0.state.wake_all();
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.0.writers.unlock();
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    struct Once {
        raw: RawOnce,
        value: UnsafeCell<u32>,
    }

    // SAFETY: the value is written once and read after that, which loom checks.
    unsafe impl Sync for Once {}
    // SAFETY: as above.
    unsafe impl Send for Once {}

    impl Once {
        fn get(&self) -> u32 {
            // SAFETY: the caller has seen that the value exists.
            self.value.with(|value| unsafe { *value })
        }

        fn init(&self, value: u32) -> bool {
            let writer = self.raw.begin().unwrap();
            let written = writer.is_some();
            if let Some(writer) = writer {
                // SAFETY: only this thread may write.
                self.value.with_mut(|place| unsafe { *place += value });
                writer.finish();
            }
            assert!(self.raw.is_ready());
            written
        }

        fn die(&self) {
            if let Some(writer) = self.raw.begin().unwrap() {
                std::mem::forget(writer);
                self.raw.writers.die();
            }
        }
    }

    fn check(others: &'static [fn(&Once)], run: fn(&Once)) {
        model(move || {
            let once = Arc::new(Once { raw: RawOnce::new(), value: UnsafeCell::new(0) });
            let spawn = |other: &fn(&Once)| {
                let (once, other) = (Arc::clone(&once), *other);
                thread::spawn(move || other(&once))
            };
            let others: Vec<_> = others.iter().map(spawn).collect();
            run(&once);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert!(!once.raw.writers.is_locked());
        });
    }

    #[test]
    fn one_of_three_writes() {
        let init = |once: &Once| {
            once.init(7);
            assert_eq!(once.get(), 7);
        };
        check(
            &[|once| assert!(!once.init(7) || once.get() == 7), |once| assert!(!once.init(7) || once.get() == 7)],
            init,
        );
    }

    #[test]
    fn those_who_wait_are_woken() {
        fn wait(once: &Once) {
            assert!(once.raw.wait(Deadline::NEVER));
            assert_eq!(once.get(), 7);
        }
        check(&[wait, wait], |once| assert!(once.init(7)));
    }

    #[test]
    fn a_writer_that_dies_leaves_it_to_the_next() {
        check(&[Once::die, |once| assert!(once.raw.wait(Deadline::NEVER))], |once| assert!(once.init(7)));
    }
}
