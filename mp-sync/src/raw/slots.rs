//! Places of which each is held by one thread, and comes back when its thread dies: those of a
//! lock's readers, or a semaphore's permits.
//!
//! # States
//!
//! Each slot has a word as that of a mutex (`raw::mutex`), and a link for the robust list of its
//! holder.
//!
//! | word | |
//! |---|---|
//! | 0 | free |
//! | `holder` | held |
//! | `holder \| WAITERS` | held, and the one who waits may sleep over it |
//! | `OWNER_DIED`, perhaps with `WAITERS` | free: its holder died |
//!
//! `depth` belongs to the holder: how often it has the slot beyond once.
//!
//! # Invariants
//!
//! 1. Only a thread that finds no holder puts its number there, and only the holder, or the kernel
//!    for it, takes it out.
//! 2. One thread at most waits for slots at a time: the caller sees to that. So one wake-up for
//!    each slot that becomes free is enough, and the one that gets it need not pass it on.
//! 3. The one who waits has put `WAITERS` into every word that it sleeps on. Whoever gives such a
//!    slot back wakes it, and so does the kernel if the holder died. Taking a slot takes `WAITERS`
//!    out: the wake-up of whoever gave it back is on its way then.
//! 4. From before a thread's number gets into a word until it has left it, the slot is in the
//!    thread's list or the pending one.
//!
//! A holder that is killed after it gave a slot back and before it woke the one who waits is
//! pending, and the kernel wakes that one, unless somebody else has the slot already: then it looks
//! again by itself (`primitive`).
//!
//! # Orderings
//!
//! Taking a slot acquires what giving it back released. Where a taken slot has to be seen by
//! somebody who has announced itself elsewhere, see `raw::rwlock`.

use super::mutex::{OWNER, Refused, WAITERS};
use crate::deadline::Deadline;
use crate::primitive::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::primitive::{AtomicU32, Futex, Link, Slept, Thread};
use crate::spin::Spin;

/// The slots of one cache line. A link is 32 bytes behind its word, as the kernel was told for all
/// locks of a thread.
#[repr(C)]
struct Block {
    words: [Word; LANES],
    links: [Link; LANES],
}

const LANES: usize = 4;

#[repr(C, align(8))]
struct Word {
    word: Futex,
    depth: AtomicU32,
}

/// `N` slots: a multiple of 4, up to what one system call can wait for.
#[repr(C)]
pub(crate) struct Slots<const N: usize> {
    /// The memory of N / 4 blocks, a number that cannot be written as that of an array.
    #[cfg(not(loom))]
    memory: [[std::sync::atomic::AtomicU64; 2]; N],
    #[cfg(loom)]
    blocks: Vec<Block>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Block>() == 64 && align_of::<Block>() == 8 && size_of::<Word>() == 8 && size_of::<Link>() == 8);
    assert!(offset_of!(Block, links) - offset_of!(Block, words) - offset_of!(Word, word) == crate::sys::robust::OFFSET);
    assert!(size_of::<Slots<4>>() == size_of::<Block>() && align_of::<Slots<4>>() == align_of::<Block>());
    assert!(size_of::<Slots<128>>() == 32 * size_of::<Block>());
};

struct SlotRef<'a> {
    word: &'a Futex,
    depth: &'a AtomicU32,
    link: &'a Link,
}

/// A slot that a thread has got.
#[derive(Clone, Copy)]
pub(crate) struct TakenSlot {
    pub(crate) index: usize,
    /// Whether the thread had it already.
    pub(crate) again: bool,
}

impl<const N: usize> Slots<N> {
    const VALID: () =
        assert!(N > 0 && N <= 128 && N % LANES == 0, "the number of slots is a multiple of 4, and 128 at most");

    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        let () = Self::VALID;
        Self { memory: [const { [const { std::sync::atomic::AtomicU64::new(0) }; 2] }; N] }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let () = Self::VALID;
        let word = |_| Word { word: Futex::new(0), depth: AtomicU32::new(0) };
        let block = |_| Block { words: std::array::from_fn(word), links: std::array::from_fn(|_| Link::new()) };
        Self { blocks: (0..N / LANES).map(block).collect() }
    }

    #[cfg(not(loom))]
    fn blocks(&self) -> &[Block] {
        let start = self.memory.as_ptr().cast::<Block>();
        // SAFETY: `VALID` holds, or there would be no `Self`: so the memory has exactly the size of
        // that many blocks, and their alignment, as asserted above. Both are atomics and nothing
        // else, for which any bytes are valid, and it is used as blocks only.
        unsafe { std::slice::from_raw_parts(start, N / LANES) }
    }

    #[cfg(loom)]
    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Slots of neighbouring numbers are in different blocks, so that threads of neighbouring
    /// numbers are.
    #[inline]
    fn slot(&self, index: usize) -> SlotRef<'_> {
        let block = &self.blocks()[index % (N / LANES)];
        let lane = index / (N / LANES);
        SlotRef { word: &block.words[lane].word, depth: &block.words[lane].depth, link: &block.links[lane] }
    }

    /// Takes a free slot among the first `count`; or, if `again`, once more one that the thread is
    /// found to have on the way.
    #[inline]
    pub(crate) fn try_take(&self, thread: Thread, count: usize, again: bool) -> Option<TakenSlot> {
        // loom's numbers differ from one run to the next, and its runs must not.
        let home = if cfg!(loom) { 0 } else { thread.id() as usize % count };
        for index in (home..count).chain(0..home) {
            let slot = self.slot(index);
            let word = slot.word.load(Relaxed);
            if word & OWNER == 0 {
                if slot.try_take(thread, word) {
                    return Some(TakenSlot { index, again: false });
                }
            } else if again && word & OWNER == thread.id() && slot.deepen() {
                return Some(TakenSlot { index, again: true });
            }
        }
        None
    }

    /// Takes once more a slot that the thread has, if it has one.
    pub(crate) fn take_again(&self, thread: Thread, count: usize) -> Option<TakenSlot> {
        let own = |index: &usize| {
            let slot = self.slot(*index);
            slot.word.load(Relaxed) & OWNER == thread.id() && slot.deepen()
        };
        (0..count).find(own).map(|index| TakenSlot { index, again: true })
    }

    /// Whether the thread has a slot.
    pub(crate) fn has_one(&self, thread: Thread, count: usize) -> bool {
        (0..count).any(|index| self.slot(index).word.load(Relaxed) & OWNER == thread.id())
    }

    /// Takes a slot, waiting for one; `None` if that took too long. Only for the one who waits
    /// (invariant 2).
    pub(crate) fn take(&self, thread: Thread, count: usize, deadline: Deadline) -> Option<TakenSlot> {
        let mut spin = Spin::brief();
        let mut late = deadline == Deadline::PASSED;
        loop {
            let taken = self.try_take(thread, count, false);
            if taken.is_some() || late {
                return taken;
            }
            if !spin.again() {
                late = self.sleep(count, deadline) == Slept::Late;
            }
        }
    }

    /// Sleeps until one of the slots may be free.
    fn sleep(&self, count: usize, deadline: Deadline) -> Slept {
        let mut words = [(self.slot(0).word, 0); N];
        for (index, entry) in words[..count].iter_mut().enumerate() {
            let slot = self.slot(index);
            let Some(word) = slot.announce() else { return Slept::Awake };
            *entry = (slot.word, word);
        }
        Futex::sleep_any(&words[..count], deadline)
    }

    /// Waits until each slot has been seen free. Only for the one who waits (invariant 2).
    pub(crate) fn wait_for_all(&self, thread: Thread, count: usize, deadline: Deadline) -> Result<(), Refused> {
        // Block by block, which is what a writer pays if nobody reads. Slots that are not in use
        // are free.
        let is_free = |word: &Word| word.word.load(SeqCst) & OWNER == 0;
        if self.blocks().iter().all(|block| block.words.iter().all(is_free)) {
            return Ok(());
        }
        if self.has_one(thread, count) {
            return Err(Refused::Own);
        }
        let mut late = deadline == Deadline::PASSED;
        for index in 0..count {
            let slot = self.slot(index);
            let mut spin = Spin::brief();
            while slot.word.load(SeqCst) & OWNER != 0 {
                if late {
                    return Err(Refused::Late);
                }
                if spin.again() {
                    continue;
                }
                if let Some(word) = slot.announce() {
                    late = slot.word.sleep(word, deadline) == Slept::Late;
                }
            }
        }
        Ok(())
    }

    /// Gives a slot back, or one of the times that the thread has it.
    #[inline]
    pub(crate) fn give_back(&self, index: usize) {
        self.slot(index).give_back();
    }

    /// How many are free at this moment.
    pub(crate) fn free(&self, count: usize) -> usize {
        (0..count).filter(|index| self.slot(*index).word.load(Relaxed) & OWNER == 0).count()
    }
}

impl SlotRef<'_> {
    #[inline]
    fn try_take(&self, thread: Thread, word: u32) -> bool {
        let shared = thread.shares(self.link);
        if shared {
            thread.begin(self.link);
        }
        // Sequentially consistent: `raw::rwlock`.
        let taken = self.word.compare_exchange(word, thread.id(), SeqCst, Relaxed).is_ok();
        if taken {
            self.depth.store(0, Relaxed);
        }
        if shared {
            if taken {
                thread.hold(self.link);
            }
            thread.end();
        }
        taken
    }

    /// Counts once more, for the holder. Not possible without end.
    fn deepen(&self) -> bool {
        let depth = self.depth.load(Relaxed).checked_add(1);
        depth.map(|depth| self.depth.store(depth, Relaxed)).is_some()
    }

    #[inline]
    fn give_back(&self) {
        let thread = Thread::current();
        let is_last = thread.holds_last(self.link);
        let shared = is_last || thread.shares(self.link);
        if shared && self.word.load(Relaxed) & OWNER != thread.id() {
            // The child of a fork, with a copy of its parent's guard.
            return;
        }
        let depth = self.depth.load(Relaxed);
        if depth != 0 {
            self.depth.store(depth - 1, Relaxed);
            return;
        }
        if shared {
            thread.begin(self.link);
        }
        if is_last {
            thread.release_last();
        } else if shared {
            thread.release(self.link);
        }
        if self.word.swap(0, Release) & WAITERS != 0 {
            self.word.wake(1);
        }
        if shared {
            thread.end();
        }
    }

    /// Says that somebody is about to sleep over a slot that is held. What the word is then; `None`
    /// if it is free, or has changed.
    fn announce(&self) -> Option<u32> {
        let word = self.word.load(Acquire);
        if word & OWNER == 0 {
            return None;
        }
        let announced = word | WAITERS;
        let is_announced = word == announced || self.word.compare_exchange(word, announced, Relaxed, Relaxed).is_ok();
        is_announced.then_some(announced)
    }
}

#[cfg(all(test, loom))]
impl<const N: usize> Slots<N> {
    /// What the kernel does when the holder of a slot has died.
    pub(crate) fn die(&self, index: usize) {
        let slot = self.slot(index);
        let mut word = slot.word.load(Relaxed);
        while let Err(now) =
            slot.word.compare_exchange(word, word & WAITERS | super::mutex::OWNER_DIED, SeqCst, Relaxed)
        {
            word = now;
        }
        if word & WAITERS != 0 {
            slot.word.wake(1);
        }
    }
}
