//! Slots, each held by one thread and freed when that dies, for a lock's readers or a semaphore's
//! permits.
//!
//! # States
//!
//! Each slot has a word like that of a mutex (`raw::mutex`), and a link for the robust list of its
//! holder.
//!
//! | word | |
//! |---|---|
//! | 0 | free |
//! | `holder` | held |
//! | `holder \| WAITERS` | held, and the waiter may sleep on it |
//! | `OWNER_DIED`, perhaps with `WAITERS` | free: its holder died |
//!
//! `depth` belongs to the holder: how often it holds the slot beyond once.
//!
//! # Invariants
//!
//! 1. Only a thread that finds no holder writes its ID to the word, and only the holder, or the
//!    kernel for it, removes it.
//! 2. At most one thread at a time waits for slots: the caller guarantees that. So one wake-up for
//!    each freed slot is enough, and the woken thread need not pass it on.
//! 3. The waiter has set `WAITERS` in every word on which it sleeps. A thread that releases such a
//!    slot wakes it, and so does the kernel if the holder dies. Taking a slot removes `WAITERS`,
//!    because the thread that released the slot has woken the waiter or is about to.
//! 4. From before a thread's ID gets into a word until after it is removed, the slot is in the
//!    thread's list or is its pending one.
//!
//! If a holder is killed after it released a slot and before it woke the waiter, the slot is
//! pending, and the kernel wakes the waiter. If another thread already has the slot, the kernel
//! does not, and the waiter checks the words itself (`primitive`).
//!
//! # Orderings
//!
//! Taking a slot acquires what releasing it released. `raw::rwlock` explains how a writer sees a
//! taken slot.

use super::mutex::{OWNER, Refused, WAITERS};
use crate::deadline::Deadline;
use crate::primitive::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::primitive::{AtomicU32, Futex, Link, Slept, Thread};
use crate::spin::Spin;

/// The slots of one cache line. A link is 32 bytes after its word, as the kernel expects it for all
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

/// `N` slots: a multiple of 4, up to the number of words on which one system call can wait.
#[repr(C)]
pub(crate) struct Slots<const N: usize> {
    /// The memory of N / 4 blocks. Rust cannot express that as the length of an array.
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

/// A slot that a thread has taken.
#[derive(Clone, Copy)]
pub(crate) struct TakenSlot {
    pub(crate) index: usize,
    /// Whether the thread already had it.
    pub(crate) again: bool,
}

impl<const N: usize> Slots<N> {
    const VALID: () =
        assert!(N > 0 && N <= 128 && N % LANES == 0, "the number of slots has to be a multiple of 4, and at most 128");

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
        // SAFETY: `VALID` holds, because `new` checks it. So the memory has exactly the size of
        // this many blocks, and their alignment, as asserted above. Both types consist of atomics,
        // for which any bytes are valid, and the memory is only used as blocks.
        unsafe { std::slice::from_raw_parts(start, N / LANES) }
    }

    #[cfg(loom)]
    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Slots with consecutive indices are in different blocks, so that threads with consecutive IDs
    /// use different cache lines.
    #[inline]
    fn slot(&self, index: usize) -> SlotRef<'_> {
        let block = &self.blocks()[index % (N / LANES)];
        let lane = index / (N / LANES);
        SlotRef { word: &block.words[lane].word, depth: &block.words[lane].depth, link: &block.links[lane] }
    }

    /// Takes a free slot among the first `count`. If `again`, and it first comes across a slot that
    /// the thread already has, it takes that one again.
    #[inline]
    pub(crate) fn try_take(&self, thread: Thread, count: usize, again: bool) -> Option<TakenSlot> {
        // loom's thread IDs differ from one run to the next, and its runs must not differ.
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

    /// Takes a slot that the thread already has once more, if there is one.
    pub(crate) fn take_again(&self, thread: Thread, count: usize) -> Option<TakenSlot> {
        let own = |index: &usize| {
            let slot = self.slot(*index);
            slot.word.load(Relaxed) & OWNER == thread.id() && slot.deepen()
        };
        (0..count).find(own).map(|index| TakenSlot { index, again: true })
    }

    /// Tells whether the thread has a slot.
    pub(crate) fn has_one(&self, thread: Thread, count: usize) -> bool {
        (0..count).any(|index| self.slot(index).word.load(Relaxed) & OWNER == thread.id())
    }

    /// Waits for a slot and takes it, or returns `None` after the deadline. Only for the one waiter
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

    /// Waits until it has seen each slot free. Only for the one waiter (invariant 2).
    pub(crate) fn wait_for_all(&self, thread: Thread, count: usize, deadline: Deadline) -> Result<(), Refused> {
        // Block by block, which is the cost of a write if there are no readers. Unused slots are
        // free.
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

    /// Releases a slot once.
    #[inline]
    pub(crate) fn give_back(&self, index: usize) {
        self.slot(index).give_back();
    }

    /// Returns how many slots are free.
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
        // Sequentially consistent: see `raw::rwlock`.
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

    /// Increments the depth, for the holder. Returns false if it would overflow.
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
            // This is the child of a fork, with a copy of its parent's guard.
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
            thread.release_last(self.link);
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

    /// Sets `WAITERS` in the word of a held slot, before sleeping on it, and returns the word.
    /// Returns `None` if the slot is free or the word has changed.
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
