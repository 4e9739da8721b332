//! Waiting for something that sends no notification.

use std::hint;
use std::thread;
use std::time::Duration;

/// Growing pauses. What is waited for is usually only a system call away; if not, there is no
/// hurry.
pub(crate) struct Pauses {
    done: u32,
}

/// How many pauses only spin, and how many after that yield the processor.
const INSTANTS: u32 = 6;
const YIELDS: u32 = 16;

const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(2);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { done: 0 }
    }

    /// Pauses for `most` at most.
    pub(crate) fn next(&mut self, most: Duration) {
        if self.done < INSTANTS {
            (0..1 << self.done).for_each(|_| hint::spin_loop());
        } else if self.done < INSTANTS + YIELDS {
            thread::yield_now();
        } else {
            let growth = (self.done - INSTANTS - YIELDS).min(16);
            thread::sleep(SHORTEST.saturating_mul(1 << growth).min(LONGEST).min(most));
        }
        self.done += 1;
    }
}
