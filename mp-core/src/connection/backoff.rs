//! Whether something that often fails is worth another try.

use std::sync::atomic::{AtomicU32, Ordering};

/// After a failure the next chance is let pass, after another one the next three, then seven, and so on.
///
/// Threads that share it may count at the same time; a chance more or less does not matter.
pub(super) struct Backoff {
    /// How many of the next chances to let pass.
    skip: AtomicU32,
    /// How many were let pass after the last failure.
    skipped: AtomicU32,
}

/// After that many chances that were let pass one is taken, to see whether things have changed.
const MOST_SKIPPED: u32 = 63;

impl Backoff {
    pub(super) fn new() -> Self {
        Self { skip: AtomicU32::new(0), skipped: AtomicU32::new(0) }
    }

    /// Tells whether to take this chance.
    pub(super) fn take_chance(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    /// Notes what came of a chance that was taken.
    pub(super) fn note(&self, success: bool) {
        let next = if success { 0 } else { (self.skipped.load(Ordering::Relaxed) * 2 + 1).min(MOST_SKIPPED) };
        self.skipped.store(next, Ordering::Relaxed);
        self.skip.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_chances_rarer_and_a_success_makes_up_for_them() {
        let backoff = Backoff::new();
        let passed = || (0..).take_while(|_| !backoff.take_chance()).count() as u32;
        for expected in [0, 1, 3, 7, 15, 31, 63, 63, 63] {
            assert_eq!(passed(), expected);
            backoff.note(false);
        }
        assert_eq!(passed(), 63);
        backoff.note(true);
        assert_eq!((passed(), passed()), (0, 0));
    }
}
