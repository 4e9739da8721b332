//! The memory that the pool and one worker share.
//!
//! | part | who writes | who reads |
//! |---|---|---|
//! | `claim`: the next call to begin, and the end of those that may begin | both, by compare-and-exchange | both |
//! | the ring to the worker: entries of arguments | the pool | the worker |
//! | the ring to the pool: entries of results | the worker | the pool |
//! | `worker_sleeps`, `pool_sleeps` | whoever is about to sleep sets it, whoever wakes clears it | the other |
//!
//! All of it is atomic, so that nothing a worker writes can do more than be wrong. The pool
//! believes none of it: it keeps its own places in the rings, copies what it reads before it looks
//! at it, and takes everything that does not fit for what it is, [`Broken`].
//!
//! What a worker has written into the ring to the pool is there whatever becomes of the worker. It
//! publishes each result before it claims the next call, so a call is the one that a dead worker
//! was running if and only if it was claimed and has no result.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use mp_shm::ShmSafe;

use crate::packed::HEADER;

/// How many words a ring has.
const WORDS: usize = 1 << 14;

#[derive(ShmSafe)]
pub(crate) struct Board {
    pub(crate) claim: Claim,
    pub(crate) to_worker: Ring,
    pub(crate) to_pool: Ring,
    pub(crate) worker_sleeps: Sleeps,
    pub(crate) pool_sleeps: Sleeps,
}

/// The other side has left its part of the memory in a state in which no sound one leaves it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Calls are numbered in the order in which they are sent to a worker.
#[derive(ShmSafe)]
pub(crate) struct Claim {
    word: AtomicU64,
    _line: [AtomicU64; 7],
}

/// What a [`Claim`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The call that begins next: all before it have begun.
    pub(crate) next: u32,
    /// Calls from here on are not to begin. [`NO_END`] is no limit.
    pub(crate) end: u32,
}

pub(crate) const NO_END: u32 = u32::MAX;

impl Claimed {
    const fn from_word(word: u64) -> Self {
        Self { next: (word >> 32) as u32, end: word as u32 }
    }

    const fn to_word(self) -> u64 {
        (self.next as u64) << 32 | self.end as u64
    }
}

impl Claim {
    pub(crate) fn begin(&self) {
        self.word.store(Claimed { next: 0, end: NO_END }.to_word(), Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> Claimed {
        Claimed::from_word(self.word.load(Acquire))
    }

    #[inline]
    pub(crate) fn change(&self, from: Claimed, to: Claimed) -> bool {
        self.word.compare_exchange(from.to_word(), to.to_word(), Release, Relaxed).is_ok()
    }
}

/// Words on their way from one side to the other.
#[derive(ShmSafe)]
pub(crate) struct Ring {
    /// How many words were ever written.
    written: AtomicU64,
    _line: [AtomicU64; 7],
    /// How many were taken.
    taken: AtomicU64,
    _other_line: [AtomicU64; 7],
    words: [AtomicU64; WORDS],
}

impl Ring {
    /// The words from a place on, as far as they go: in two parts where they go round the end.
    #[inline]
    fn words(&self, from: u64) -> (&[AtomicU64], &[AtomicU64]) {
        let (second, first) = self.words.split_at(from as usize % WORDS);
        (first, second)
    }
}

/// One side's place in a ring that it writes.
#[derive(Default)]
pub(crate) struct Producer {
    written: u64,
}

impl Producer {
    /// How many bytes there is room for.
    pub(crate) fn room(&self, ring: &Ring) -> Result<usize, Broken> {
        let under_way = self.written.wrapping_sub(ring.taken.load(Acquire));
        (WORDS as u64).checked_sub(under_way).map(|words| words as usize * HEADER).ok_or(Broken)
    }

    /// Writes entries for which there is room; the other side does not see them yet.
    pub(crate) fn write(&mut self, ring: &Ring, entries: &[u8]) {
        let (first, second) = ring.words(self.written);
        let (head, tail) = entries.split_at(entries.len().min(first.len() * HEADER));
        for (words, bytes) in [(first, head), (second, tail)] {
            for (word, bytes) in words.iter().zip(bytes.chunks_exact(HEADER)) {
                word.store(u64::from_le_bytes(bytes.try_into().unwrap_or_default()), Relaxed);
            }
        }
        self.written += (entries.len() / HEADER) as u64;
    }

    /// Lets the other side see what was written.
    #[inline]
    pub(crate) fn publish(&self, ring: &Ring) {
        ring.written.store(self.written, Release);
    }
}

/// One side's place in a ring that it reads.
#[derive(Default)]
pub(crate) struct Consumer {
    taken: u64,
}

impl Consumer {
    #[inline]
    pub(crate) fn is_empty(&self, ring: &Ring) -> bool {
        ring.written.load(Acquire) == self.taken
    }

    /// Appends everything that there is to `entries`, and makes room for more.
    pub(crate) fn take(&mut self, ring: &Ring, entries: &mut Vec<u8>) -> Result<(), Broken> {
        let count = ring.written.load(Acquire).wrapping_sub(self.taken);
        if count > WORDS as u64 {
            return Err(Broken);
        }
        let (first, second) = ring.words(self.taken);
        let first = &first[..first.len().min(count as usize)];
        let second = &second[..count as usize - first.len()];
        for part in [first, second] {
            let start = entries.len();
            entries.resize(start + part.len() * HEADER, 0);
            for (bytes, word) in entries[start..].chunks_exact_mut(HEADER).zip(part) {
                bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
            }
        }
        self.taken += count;
        ring.taken.store(self.taken, Release);
        Ok(())
    }
}

/// Whether one side sleeps, and what for.
#[derive(ShmSafe)]
pub(crate) struct Sleeps {
    what: AtomicU32,
    _line: [AtomicU32; 15],
}

/// What a side sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Until {
    /// There is more to read.
    More = 1,
    /// There is room to write.
    Room = 2,
}

impl Sleeps {
    /// Says that this side is about to sleep; false if that stood there already. What it sleeps for
    /// has to be looked for once more after this.
    pub(crate) fn set(&self, until: Until) -> bool {
        let before = self.what.swap(until as u32, Relaxed);
        fence(SeqCst);
        before == 0
    }

    /// Takes that back; false if the other side has done so, in order to wake this one.
    pub(crate) fn clear(&self) -> bool {
        self.what.swap(0, Relaxed) != 0
    }

    /// Tells whether the other side, which sleeps for this, has to be woken. What it sleeps for was
    /// written before this.
    #[inline]
    pub(crate) fn is_to_be_woken(&self, until: Until) -> bool {
        fence(SeqCst);
        self.what.load(Relaxed) == until as u32 && self.what.swap(0, Relaxed) != 0
    }
}
