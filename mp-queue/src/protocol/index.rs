//! The protocol of the ring: who owns which bytes, and who wakes whom.
//!
//! The ring has a producer and a consumer, each a thread of any process. The producer owns the free
//! bytes, the consumer the others. Two words say which those are, and each has one writer:
//!
//! | word | written by | says |
//! |---|---|---|
//! | `tail` | the producer | what was published |
//! | `head` | the consumer | what was taken |
//! | `closed` | anybody, once | no producer that begins from here on publishes |
//!
//! Each is an [`Index`]: a position in the ring and the number of messages up to it, in one word.
//!
//! 1. A message is published by one write of `tail`, after its bytes are in the ring, and taken by
//!    one write of `head`, after its bytes were copied out. So a process that is killed between any
//!    two instructions leaves the message either free or published, and either published or taken;
//!    the position and the count never disagree.
//! 2. `head` is behind `tail`, by the ring's size at most. The bytes from `head` up to `tail` are
//!    the consumer's, the others the producer's.
//! 3. A producer looks at `closed` after it has become the producer, and before it publishes. So
//!    once a thread has seen `closed` and has then been the producer, or has excluded the producer,
//!    `tail` no longer changes. That is the end that a consumer reports: no message is published
//!    after it.
//! 4. A word of another process may be anything. A position is used modulo the size of the ring, so
//!    no access leaves it; an index that breaks invariant 2 is an error.
//!
//! # Sleeping
//!
//! Each side has a [`Signal`], a futex of which two bits say who waits: threads that sleep there,
//! and threads and tasks that wait for an eventfd. A waiter sets its bit, looks at the other side's
//! index again, and then sleeps. The other side writes its index, then looks at the bits. Between
//! the two, each side has a full fence, so one of them sees the other ([Dekker's
//! argument](https://en.wikipedia.org/wiki/Dekker%27s_algorithm)): no wake-up is lost. The fence of
//! the other side is often free, see [`fence_after_unlocking`]. Nothing is written to the signal,
//! and nobody is woken, while nobody waits.
//!
//! # What a dead process leaves behind
//!
//! A producer that dies after publishing and before it woke the consumer owes it a wake-up. So
//! sleepers look again every 100 ms, and so do those who wait for the eventfd (`event`). A waiter
//! that dies leaves its bit, which the next write clears, for a useless system call.

use crate::deadline::Deadline;
use crate::primitive::{AtomicU32, AtomicU64, Futex, Ordering, Slept, fence};

/// Messages and their bytes, counted from the beginning, both modulo a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Index(u64);

/// Positions count in units of so many bytes.
pub(crate) const UNIT: usize = 8;

/// The largest ring, in bytes: two positions in it differ by less than half of what a position can
/// count.
pub(crate) const LARGEST: usize = (1 << 30) * UNIT;

impl Index {
    #[inline]
    fn new(count: u32, position: u32) -> Self {
        Self(u64::from(count) << 32 | u64::from(position))
    }

    /// The index of these bits, which may be any.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The position, in units.
    #[inline]
    pub(crate) fn position(self) -> u32 {
        self.0 as u32
    }

    /// How many messages.
    #[inline]
    pub(crate) fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The index behind so many more units and messages.
    #[inline]
    pub(crate) fn plus(self, units: u32, messages: u32) -> Self {
        Self::new(self.count().wrapping_add(messages), self.position().wrapping_add(units))
    }

    /// How many units there are from `earlier` up to here.
    #[inline]
    pub(crate) fn units_since(self, earlier: Self) -> u32 {
        self.position().wrapping_sub(earlier.position())
    }

    /// How many messages there are from `earlier` up to here.
    #[inline]
    pub(crate) fn messages_since(self, earlier: Self) -> u32 {
        self.count().wrapping_sub(earlier.count())
    }
}

/// The words that the two sides of a ring share. All-zero bytes are those of an empty ring.
#[repr(C)]
#[cfg_attr(not(loom), derive(mp_shm::ShmSafe))]
pub struct Indices {
    tail: Line<AtomicU64>,
    head: Line<AtomicU64>,
    /// Where the consumer waits for messages. It is rarely written.
    pub(crate) items: Signal,
    /// Where the producer waits for space. It is rarely written.
    pub(crate) space: Signal,
    closed: AtomicU32,
}

/// A value that shares its cache line with no other, nor the one beside it, which processors fetch
/// as well.
#[repr(C, align(128))]
#[cfg_attr(not(loom), derive(mp_shm::ShmSafe))]
pub(crate) struct Line<T>(pub(crate) T);

impl Indices {
    /// Returns those of an empty ring.
    #[allow(clippy::new_without_default, reason = "they are placed in shared memory, once for each ring")]
    #[inline]
    pub fn new() -> Self {
        Self {
            tail: Line(AtomicU64::new(0)),
            head: Line(AtomicU64::new(0)),
            items: Signal::new(),
            space: Signal::new(),
            closed: AtomicU32::new(0),
        }
    }

    /// Words of chance.
    #[cfg(all(test, not(loom)))]
    pub(super) fn of(tail: Index, head: Index) -> Self {
        let indices = Self::new();
        indices.tail.0.store(tail.0, Ordering::Relaxed);
        indices.head.0.store(head.0, Ordering::Relaxed);
        indices
    }

    /// What was published. Whoever waits for it looks here after it set its bit.
    #[inline]
    pub(crate) fn tail(&self) -> Index {
        // Acquire, for the bytes before it.
        Index(self.tail.0.load(Ordering::Acquire))
    }

    /// What was taken.
    #[inline]
    pub(crate) fn head(&self) -> Index {
        // Acquire: the consumer has read the bytes before it, and they may be written now.
        Index(self.head.0.load(Ordering::Acquire))
    }

    /// Publishes what the producer has written up to `new`. The producer then owes a full fence and
    /// a [`Signal::notify`] of `items`.
    #[inline]
    pub(crate) fn publish(&self, new: Index) {
        // Release: the bytes are written before.
        self.tail.0.store(new.0, Ordering::Release);
    }

    /// Takes what is before `new`. The consumer then owes a full fence and a [`Signal::notify`] of
    /// `space`.
    #[inline]
    pub(crate) fn take(&self, new: Index) {
        // Release: the bytes were read before.
        self.head.0.store(new.0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// Closes the ring. The caller then owes a [`Signal::notify_all`] of both signals.
    #[inline]
    pub(crate) fn close(&self) {
        self.closed.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

/// Is a full fence, after this thread has released a lock that it had when it wrote an index.
///
/// To release a lock is a read-modify-write operation, which on x86-64 is a full fence. Another one
/// takes as long as copying a short message.
#[inline]
pub(crate) fn fence_after_unlocking() {
    if cfg!(all(target_arch = "x86_64", not(loom))) {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Threads sleep on the futex, or did when they were last looked for.
const SLEEPER: u32 = 1 << 0;
/// Somebody waits for the eventfd.
const WATCHED: u32 = 1 << 1;
/// The rest of the word counts the wake-ups and the threads that have come to sleep, so that each
/// changes it.
const ONE: u32 = 1 << 2;

/// Where one side waits for the other.
#[repr(transparent)]
#[cfg_attr(not(loom), derive(mp_shm::ShmSafe))]
pub(crate) struct Signal(Futex);

impl Signal {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(Futex::new(0))
    }

    /// Wakes one thread that sleeps, and those who wait for the eventfd, after what they wait for
    /// has been written. `write` writes the eventfd.
    #[inline]
    pub(crate) fn notify(&self, write: impl FnOnce()) {
        if self.has_waiters() {
            self.notify_waiters(1, write);
        }
    }

    /// The same for all threads that sleep.
    #[inline]
    pub(crate) fn notify_all(&self, write: impl FnOnce()) {
        if self.has_waiters() {
            self.notify_waiters(u32::MAX >> 1, write);
        }
    }

    #[cold]
    fn notify_waiters(&self, count: u32, write: impl FnOnce()) {
        let mut word = self.0.load(Ordering::SeqCst);
        let changed = loop {
            if word & (SLEEPER | WATCHED) == 0 {
                return;
            }
            let next = (word & !WATCHED).wrapping_add(ONE);
            match self.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break next,
                Err(changed) => word = changed,
            }
        };
        if word & SLEEPER != 0 && self.0.wake(count) == 0 {
            // Nobody slept, and nobody has come to sleep since the word changed: that would have
            // changed it again.
            let _ = self.0.compare_exchange(changed, changed & !SLEEPER, Ordering::SeqCst, Ordering::Relaxed);
        }
        if word & WATCHED != 0 {
            write();
        }
    }

    /// Sleeps for a while unless `ready`, which looks at the index of the other side.
    #[inline]
    pub(crate) fn sleep(&self, ready: impl FnOnce() -> bool, deadline: Deadline) -> Slept {
        let mut word = self.0.load(Ordering::SeqCst);
        let announced = loop {
            let next = (word | SLEEPER).wrapping_add(ONE);
            match self.0.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break next,
                Err(changed) => word = changed,
            }
        };
        fence(Ordering::SeqCst);
        if ready() { Slept::Awake } else { self.0.sleep(announced, deadline) }
    }

    /// Announces a waiter for the eventfd, who then looks at the index of the other side.
    #[inline]
    pub(crate) fn watch(&self) {
        self.0.fetch_or(WATCHED, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Tells whether somebody waits here, or did when it died.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.0.load(Ordering::SeqCst) & (SLEEPER | WATCHED) != 0
    }
}
