//! The memory that the pool and one worker share.
//!
//! | part | who writes | who reads |
//! |---|---|---|
//! | `claim`: the next call to begin, and the end of those that may begin | both, by compare-and-exchange | both |
//! | the ring to the worker: entries of arguments | the pool | the worker |
//! | the ring to the pool: entries of results | the worker | the pool |
//! | `worker_sleeps`, `pool_sleeps` | the side that is about to sleep sets it, the side that wakes the other clears it | both |
//!
//! The rings are those of mp-queue, `mp_queue::ring::raw`. Nothing that a worker writes can do more
//! than be wrong, and the pool believes none of it: it copies what it reads before it looks at it,
//! and whatever does not fit is [`Broken`].
//!
//! What a worker has written into the ring to the pool is there whatever becomes of the worker. It
//! publishes each result before it claims the next call, so a call is the one that a dead worker
//! was running if and only if it was claimed and has no result.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use mp_queue::ring::raw::{Consumer, Damaged, Indices, Parts, Producer};
use mp_shm::ShmSafe;
use mp_shm::raw::Region;

/// The size of each ring, in bytes. An empty one has room for half of it at once, which is more
/// than any entry takes. The kernel allocates what is used, mostly the first 64 KiB.
const RING: usize = 128 << 10;

/// The beginning of the memory. The bytes of the ring to the worker follow, then those of the other
/// one.
#[derive(ShmSafe)]
pub(crate) struct Board {
    pub(crate) claim: Claim,
    to_worker: Indices,
    to_pool: Indices,
    pub(crate) worker_sleeps: Sleeps,
    pub(crate) pool_sleeps: Sleeps,
}

impl Board {
    pub(crate) fn create() -> io::Result<Region<Self>> {
        let region = Region::<Self>::zeroed(2 * RING)?;
        region.head().claim.begin();
        Ok(region)
    }

    /// The ends of the pool.
    pub(crate) fn for_pool(region: Region<Self>) -> io::Result<(Producer<Self>, Consumer<Self>)> {
        let mut parts = Parts::new(region);
        Ok((parts.producer(RING, |board| &board.to_worker)?, parts.consumer(RING, |board| &board.to_pool)?))
    }

    /// The ends of the worker.
    pub(crate) fn for_worker(region: Region<Self>) -> io::Result<(Consumer<Self>, Producer<Self>)> {
        let mut parts = Parts::new(region);
        Ok((parts.consumer(RING, |board| &board.to_worker)?, parts.producer(RING, |board| &board.to_pool)?))
    }
}

/// The other side has said or left in memory what no sound one says or leaves there.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl From<Damaged> for Broken {
    fn from(_: Damaged) -> Self {
        Self
    }
}

/// Calls are numbered in the order in which they are sent to a worker.
#[derive(ShmSafe)]
pub(crate) struct Claim {
    word: AtomicU64,
    _line: [AtomicU64; 7],
}

/// What a worker has begun, and may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The call that begins next: all before it have begun.
    pub next: u32,
    /// Calls from here on are not to begin. [`NO_END`] is no limit.
    pub end: u32,
}

/// The end of a claim that has none.
pub const NO_END: u32 = u32::MAX;

impl Claimed {
    const fn from_word(word: u64) -> Self {
        Self { next: (word >> 32) as u32, end: word as u32 }
    }

    const fn to_word(self) -> u64 {
        (self.next as u64) << 32 | self.end as u64
    }
}

impl Claim {
    fn begin(&self) {
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
