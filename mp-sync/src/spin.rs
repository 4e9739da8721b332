//! Looking again for a moment before sleeping.
//!
//! Sleeping and waking takes tens of microseconds if the processor has become idle. Often the wait
//! is shorter than that: a lock is held for a few instructions, or an answer is being written. With
//! only one processor, looking would keep the other thread from running, so then there is no
//! looking.

use crate::primitive::spin_loop;

/// The looks of one wait, each a little later than the one before.
pub(crate) struct Spin {
    pauses: u32,
    yields: u32,
    pause: u32,
}

/// The longest pause between two looks, in pause instructions: some hundred nanoseconds.
const LONGEST: u32 = 64;

impl Spin {
    /// For a wait of a few instructions of another thread. It looks for some microseconds at most.
    pub(crate) fn brief() -> Self {
        Self::looking(7, 0)
    }

    /// For a wait that may be as long as a wake-up. It looks for some ten microseconds, and yields
    /// the processor between its looks, perhaps to the thread for which it waits.
    pub(crate) fn patient() -> Self {
        Self::looking(7, 20)
    }

    fn looking(pauses: u32, yields: u32) -> Self {
        #[cfg(loom)]
        let pays = false;
        #[cfg(not(loom))]
        let pays = crate::sys::processors::several();
        if pays { Self { pauses, yields, pause: 1 } } else { Self { pauses: 0, yields: 0, pause: 1 } }
    }

    /// Pauses for a moment, and tells whether to look again. If not, it is time to sleep.
    pub(crate) fn again(&mut self) -> bool {
        if self.pauses > 0 {
            self.pauses -= 1;
            for _ in 0..self.pause {
                spin_loop();
            }
            self.pause = (self.pause * 2).min(LONGEST);
            return true;
        }
        if self.yields > 0 {
            self.yields -= 1;
            std::thread::yield_now();
            return true;
        }
        false
    }
}
