//! Looking for a message, or for room, for a short while before going to sleep over it.
//!
//! Waking a thread that sleeps on an idle processor takes tens of microseconds, many times what
//! handing over a short message takes. So a thread first looks a few times, for about as long as a
//! wake-up would take: it loses that much at most. Where looking does not pay, it is done ever more
//! rarely, and never where the thread has one processor only, which the peer needs.
//!
//! It does not yield between two looks. On a busy machine yielding gives the processor to programs
//! that have nothing to do with the message, for milliseconds, while a thread that sleeps is woken
//! at once.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys::limits::processors_of_this_thread;
use crate::sys::poll::Deadline;

/// How long a thread looks.
const WHILE: Duration = Duration::from_micros(50);

/// How long passes between two looks at most, unless another thread was given the processor
/// meanwhile.
const AWAY: Duration = Duration::from_micros(20);

/// How many times a thread tells the processor that it spins, between two looks.
const PAUSES: u32 = 16;

/// After that many waits without looking, one looks, to see whether things have changed.
const MOST_SKIPPED: u32 = 63;

/// Whether looking has paid at one end of a connection.
///
/// After a failure the next wait does not look, after another one the next three, then seven, and
/// so on. Threads that share it may count at the same time; one more or less does not matter.
pub(super) struct Spins {
    /// How many of the next waits do not look.
    skip: AtomicU32,
    /// How many did not after the last failure.
    skipped: AtomicU32,
}

impl Spins {
    pub(super) fn new() -> Self {
        Self { skip: AtomicU32::new(0), skipped: AtomicU32::new(0) }
    }

    /// Begins a wait.
    pub(super) fn wait(&self, deadline: Deadline) -> Wait<'_> {
        let looks = !deadline.is_now() && self.is_due();
        Wait { spins: self, state: if looks { State::Fresh } else { State::Over } }
    }

    fn is_due(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    fn note(&self, success: bool) {
        let next = if success { 0 } else { (self.skipped.load(Ordering::Relaxed) * 2 + 1).min(MOST_SKIPPED) };
        self.skipped.store(next, Ordering::Relaxed);
        self.skip.store(next, Ordering::Relaxed);
    }
}

/// One wait, in which a thread may look before it sleeps.
pub(super) struct Wait<'a> {
    spins: &'a Spins,
    state: State,
}

enum State {
    /// It has not looked in vain yet.
    Fresh,
    /// It has, and goes on.
    Looking { until: Instant, last: Instant },
    /// It sleeps.
    Over,
}

impl Wait<'_> {
    /// Tells whether looking is over.
    pub(super) fn sleeps(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// There was nothing.
    pub(super) fn in_vain(&mut self) {
        let now = Instant::now();
        match &mut self.state {
            // Asked each time, since a thread can be moved to other processors.
            State::Fresh if processors_of_this_thread() > 1 => {
                self.state = State::Looking { until: now + WHILE, last: now };
            }
            State::Looking { until, last } if now < *until && now - *last <= AWAY => *last = now,
            State::Fresh | State::Looking { .. } => {
                self.spins.note(false);
                self.state = State::Over;
                return;
            }
            State::Over => return,
        }
        for _ in 0..PAUSES {
            spin_loop();
        }
    }

    /// There was something.
    pub(super) fn found(self) {
        // A message that was there at once says nothing about looking.
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
