//! Looking for a message or for room for a short while before sleeping.
//!
//! Waking a thread that sleeps on an idle processor takes tens of microseconds, many times as long
//! as passing a short message. So a thread first looks a few times, for about as long as a wake-up
//! takes, and loses at most that much time. An end where looking finds nothing does it less and
//! less often. A thread that has only one processor never does, because its peer needs the
//! processor.
//!
//! It does not yield between two looks. On a busy machine, yielding gives the processor to
//! unrelated programs for milliseconds, while a sleeping thread is woken at once.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys::limits::processors_of_this_thread;

/// How long a thread looks.
const WHILE: Duration = Duration::from_micros(50);

/// The longest time between two looks, unless the thread loses the processor meanwhile.
const AWAY: Duration = Duration::from_micros(20);

/// How many times a thread tells the processor that it spins, between two looks.
const PAUSES: u32 = 16;

/// The most waits without looking. After that many, a wait looks again.
const MOST_SKIPPED: u32 = 63;

/// Records whether looking before sleeping finds something, at one end of a connection.
///
/// After a look that found nothing, the next wait does not look; after another one, the next three,
/// then seven, and so on. Threads that share it may count at the same time, which can make the
/// numbers slightly wrong and does no harm.
#[derive(Debug)]
pub struct Spins {
    /// How many of the next waits will not look.
    skip: AtomicU32,
    /// How many waits did not look after the last failure.
    skipped: AtomicU32,
}

impl Spins {
    /// Makes a record with which the first wait looks.
    pub const fn new() -> Self {
        Self { skip: AtomicU32::new(0), skipped: AtomicU32::new(0) }
    }

    /// Begins a wait. It looks if it `may` and if looking has found something before.
    #[inline]
    pub fn wait(&self, may: bool) -> Wait<'_> {
        let looks = may && self.is_due();
        Wait { spins: self, state: if looks { State::Fresh } else { State::Over } }
    }

    /// Tells whether to try now what has paid or not paid before, for something else than a wait
    /// that looks. The caller then calls [`note`](Self::note).
    #[inline]
    pub fn is_due(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    /// Records whether what was tried has paid.
    pub fn note(&self, success: bool) {
        let next = if success { 0 } else { (self.skipped.load(Ordering::Relaxed) * 2 + 1).min(MOST_SKIPPED) };
        self.skipped.store(next, Ordering::Relaxed);
        self.skip.store(next, Ordering::Relaxed);
    }
}

impl Default for Spins {
    fn default() -> Self {
        Self::new()
    }
}

/// One wait, in which a thread may look before it sleeps.
#[derive(Debug)]
pub struct Wait<'a> {
    spins: &'a Spins,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has not looked yet.
    Fresh,
    /// It has looked and found nothing, and looks again.
    Looking { until: Instant, last: Instant },
    /// It sleeps.
    Over,
}

impl Wait<'_> {
    /// Tells whether the wait has stopped looking, so that the thread has to sleep.
    #[must_use]
    #[inline]
    pub fn sleeps(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Records that a look found nothing, and lets a moment pass: for looks that are system calls.
    pub fn in_vain(&mut self) {
        self.look_for_a_moment(|| false);
    }

    /// Records that a look found nothing, and looks by `found` until that is true or looking is
    /// over: for looks that are a few instructions.
    pub fn look(&mut self, mut found: impl FnMut() -> bool) {
        while !self.sleeps() && !self.look_for_a_moment(&mut found) {}
    }

    fn look_for_a_moment(&mut self, mut found: impl FnMut() -> bool) -> bool {
        let now = Instant::now();
        match &mut self.state {
            // Asked each time, because a thread can be moved to other processors.
            State::Fresh if processors_of_this_thread() > 1 => {
                self.state = State::Looking { until: now + WHILE, last: now };
            }
            State::Looking { until, last } if now < *until && now - *last <= AWAY => *last = now,
            State::Fresh | State::Looking { .. } => {
                self.spins.note(false);
                self.state = State::Over;
                return false;
            }
            State::Over => return false,
        }
        (0..PAUSES).any(|_| {
            spin_loop();
            found()
        })
    }

    /// Ends the wait, because a look found something.
    #[inline]
    pub fn found(self) {
        // If it was found at once, that says nothing about looking.
        if let State::Looking { last, .. } = self.state {
            self.spins.note(last.elapsed() <= AWAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_looking_rarer_and_a_success_makes_up_for_them() {
        let spins = Spins::new();
        let skipped = || (0..).take_while(|_| !spins.is_due()).count() as u32;
        for expected in [0, 1, 3, 7, 15, 31, 63, 63, 63] {
            assert_eq!(skipped(), expected);
            spins.note(false);
        }
        assert_eq!(skipped(), 63);
        spins.note(true);
        assert_eq!((skipped(), skipped()), (0, 0));
    }
}
