//! Looking again for a moment before going to sleep.
//!
//! Sleeping and being woken costs tens of microseconds where the processor has become idle, and what is waited for is often closer than
//! that: a lock that is held for a few instructions, an answer that is being written. Where there is one processor only, looking keeps
//! the other from doing it, so there nobody looks.

use crate::primitive::spin_loop;

/// One wait's looks: each a little later than the one before.
pub(crate) struct Spin {
    left: u32,
    pause: u32,
}

/// The longest pause between two looks, in instructions that tell the processor to pause: some hundred nanoseconds.
const LONGEST: u32 = 16;

impl Spin {
    /// For what takes the other a few instructions: about a microsecond.
    pub(crate) fn brief() -> Self {
        Self::looking(30)
    }

    /// For what is worth as long as a wake-up would take.
    pub(crate) fn patient() -> Self {
        Self::looking(30)
    }

    fn looking(looks: u32) -> Self {
        #[cfg(loom)]
        let left = looks.min(0);
        #[cfg(not(loom))]
        let left = if crate::sys::processors::several() { looks } else { 0 };
        Self { left, pause: 1 }
    }

    /// Lets a moment pass. Tells whether to look again; otherwise it is time to sleep.
    pub(crate) fn again(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        for _ in 0..self.pause {
            spin_loop();
        }
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}
