//! Looking for a message, or for room for one, for a short while before sleeping.
//!
//! Waking a thread that sleeps on an idle processor takes tens of microseconds, many times what it
//! takes to pass a short message. So a receiver looks for a message for about that long before it
//! sleeps, and a sender looks for room: at worst this doubles the wait. An end where looking does
//! not pay looks less and less often. With one processor no end looks, because the peer needs it.
//!
//! Between two looks the thread yields. If another thread then keeps the processor, the machine is
//! busy, and a sleeping thread gets the processor back sooner than one that yields. That counts as
//! not paying.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys::limits::processors_of_this_thread;
use crate::sys::poll::Deadline;

/// How long a thread looks.
const WHILE: Duration = Duration::from_micros(50);

/// How long it is away between two looks where nobody else wants the processor, at most.
const AWAY: Duration = Duration::from_micros(20);

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
        let looks = !deadline.is_now() && several_processors() && self.is_due();
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
            State::Fresh => self.state = State::Looking { until: now + WHILE, last: now },
            State::Looking { until, last } if now >= *until || now - *last > AWAY => {
                self.spins.note(false);
                self.state = State::Over;
                return;
            }
            State::Looking { last, .. } => *last = now,
            State::Over => return,
        }
        // The peer may need the processor.
        std::thread::yield_now();
    }

    /// There was something.
    pub(super) fn found(self) {
        // A message that was there at once says nothing about looking.
        if let State::Looking { last, .. } = self.state {
            self.spins.note(last.elapsed() <= AWAY);
        }
    }
}

fn several_processors() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| processors_of_this_thread() > 1)
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
