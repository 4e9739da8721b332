//! Looking for a message for a short while before going to sleep over it.
//!
//! Waking a thread that sleeps on an idle processor takes tens of microseconds, many times what it takes to hand a short
//! message over. So a receiver first looks a few times, for about as long as a wake-up would take: then it has lost that much at
//! most. Where looking does not pay, it is done ever more rarely; and never where there is one processor only, which the sender needs.
//! Between two looks it lets others have the processor. If they keep it, the machine is busy, and a thread that sleeps gets it
//! back sooner than one that gives it away: that counts as not paying.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::sys::limits::processors_of_this_thread;

/// How long a receiver looks.
const WHILE: Duration = Duration::from_micros(50);

/// How long it is away between two looks where nobody else wants the processor, at most.
const AWAY: Duration = Duration::from_micros(20);

/// One wait, in which a receiver may look before it sleeps.
pub(super) struct Spin<'a> {
    backoff: &'a Backoff,
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

impl<'a> Spin<'a> {
    pub(super) fn new(backoff: &'a Backoff) -> Self {
        let state = if several_processors() && backoff.take_chance() { State::Fresh } else { State::Over };
        Self { backoff, state }
    }

    /// Tells whether to look, without sleeping.
    pub(super) fn looks(&self) -> bool {
        !matches!(self.state, State::Over)
    }

    /// There was nothing.
    pub(super) fn in_vain(&mut self) {
        let now = Instant::now();
        match &mut self.state {
            State::Fresh => self.state = State::Looking { until: now + WHILE, last: now },
            State::Looking { until, last } if now >= *until || now - *last > AWAY => {
                self.backoff.note(false);
                self.state = State::Over;
                return;
            }
            State::Looking { last, .. } => *last = now,
            State::Over => return,
        }
        // The sender perhaps.
        std::thread::yield_now();
    }

    /// There was something.
    pub(super) fn found(self) {
        // A message that was there at once says nothing about looking.
        if let State::Looking { last, .. } = self.state {
            self.backoff.note(last.elapsed() <= AWAY);
        }
    }
}

fn several_processors() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| processors_of_this_thread() > 1)
}
