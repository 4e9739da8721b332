//! Looking again for a moment before going to sleep.
//!
//! Sleeping and being woken costs tens of microseconds where the processor has become idle, and
//! what is waited for is often closer than that: a lock that is held for a few instructions, an
//! answer that is being written. Where there is one processor only, looking keeps the other from
//! doing it, so there nobody looks.

use crate::primitive::spin_loop;

/// One wait's looks: each a little later than the one before.
pub(crate) struct Spin {
    pauses: u32,
    yields: u32,
    pause: u32,
}

/// The longest pause between two looks, in instructions that tell the processor to pause: some
/// hundred nanoseconds.
const LONGEST: u32 = 64;

impl Spin {
    /// For what takes the other a few instructions: some microseconds at most.
    pub(crate) fn brief() -> Self {
        Self::looking(7, 0)
    }

    /// For what is worth as long as a wake-up would take: some ten microseconds. Between its looks
    /// it lets others have the processor, the one who is waited for among them.
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

    /// Lets a moment pass. Tells whether to look again; otherwise it is time to sleep.
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
