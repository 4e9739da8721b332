//! A mutex that reports the death of its owner to the next owner.
//!
//! # States
//!
//! The word has the form of the kernel's robust futexes: the ID of the owner's thread, or 0 if
//! there is no owner; `WAITERS` if threads may sleep on it; `OWNER_DIED` if its owner ended and the
//! kernel noticed.
//!
//! | word | |
//! |---|---|
//! | 0 | free |
//! | `owner` | held, no sleepers |
//! | `owner \| WAITERS` | held, perhaps sleepers |
//! | `OWNER_DIED`, perhaps with `WAITERS` | free, but the value may be half changed |
//! | `owner \| OWNER_DIED`, perhaps with `WAITERS` | taken in that state, and not yet recorded in `poisoned` |
//!
//! `poisoned` belongs to the owner: it says whether the value may be half changed and no owner has
//! marked it as consistent since.
//!
//! # Invariants
//!
//! 1. Only a thread that finds no owner writes its ID to the word, and only the owner, or the
//!    kernel for it, removes it.
//! 2. `OWNER_DIED` is removed after `poisoned` is set. If a thread dies in between, the kernel sets
//!    it again.
//! 3. A sleeper saw `WAITERS` in the word when it fell asleep. A thread that releases a word with
//!    `WAITERS` wakes one sleeper. That one sets `WAITERS` again when it takes the word or gives
//!    up, because it cannot know whether it was the last sleeper.
//! 4. From before the first change of the word until after the last one, the lock is the thread's
//!    pending one (`sys::robust`), and while the thread holds the lock, it is in its list. For a
//!    waiter that is killed after it was woken, the lock is pending too: if the word is 0, the
//!    kernel wakes another sleeper. If another thread took the word meanwhile, or the word says
//!    `OWNER_DIED`, the kernel does not. That wake-up is lost with the dead waiter, and a sleeper
//!    notices when it next checks the word (`primitive`).
//!
//! # Orderings
//!
//! Taking the word acquires what releasing it released, in any process. When an owner dies, the
//! kernel changes the word after everything that the thread did, and with a full barrier. Only the
//! owner reads and writes `poisoned`, so relaxed is enough.

use crate::deadline::Deadline;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, Futex, Link, Slept, Thread};
use crate::spin::Spin;

pub(crate) const WAITERS: u32 = 0x8000_0000;
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;
pub(crate) const OWNER: u32 = 0x3fff_ffff;

#[repr(C, align(8))]
pub(crate) struct RawMutex {
    word: Futex,
    poisoned: AtomicU32,
    /// For the owner: how often it holds the lock beyond once. (For a mutex that is not reentrant,
    /// 0.)
    depth: AtomicU32,
    reserved: [u32; 5],
    link: Link,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawMutex>() == 40 && align_of::<RawMutex>() == 8);
    assert!(std::mem::offset_of!(RawMutex, link) - std::mem::offset_of!(RawMutex, word) == crate::sys::robust::OFFSET);
};

/// Why the lock was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The deadline passed first.
    Late,
    /// The thread already holds it.
    Own,
}

impl RawMutex {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { word: Futex::new(0), poisoned: AtomicU32::new(0), depth: AtomicU32::new(0), reserved: [0; 5], link: Link::new() }
        }
    }

    /// Takes the lock, and tells whether the value is consistent.
    #[inline(always)]
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<bool, Refused> {
        let thread = Thread::current();
        let shared = thread.shares(&self.link);
        if shared {
            thread.begin(&self.link);
        }
        let result = match self.word.compare_exchange(0, thread.id(), Acquire, Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => self.lock_contended(thread, deadline),
        };
        if shared {
            match result {
                // The lock stays the pending one, which saves a step here and another one in
                // releasing it.
                Ok(()) => thread.hold(&self.link),
                Err(_) => thread.end(),
            }
        }
        result.map(|()| self.poisoned.load(Relaxed) == 0)
    }

    #[cold]
    fn lock_contended(&self, thread: Thread, deadline: Deadline) -> Result<(), Refused> {
        let mut spin = Spin::brief();
        // What this thread adds to its ID in the word: once it has slept, others may sleep too.
        let mut waiters = 0;
        let mut late = deadline == Deadline::PASSED;
        loop {
            let word = self.word.load(Relaxed);
            if word & OWNER == 0 {
                let taken = word | thread.id() | waiters;
                if self.word.compare_exchange(word, taken, Acquire, Relaxed).is_ok() {
                    if word & OWNER_DIED != 0 {
                        self.poisoned.store(1, Relaxed);
                        self.depth.store(0, Relaxed);
                        // Release, for invariant 2: the next thread sees `poisoned`.
                        self.word.fetch_and(!OWNER_DIED, Release);
                    }
                    return Ok(());
                }
                continue;
            }
            if word & OWNER == thread.id() {
                return Err(Refused::Own);
            }
            if late {
                // A wake-up may have been meant for the next owner, so this thread must pass it on.
                if waiters == 0 || word & WAITERS != 0 {
                    return Err(Refused::Late);
                }
                if self.word.compare_exchange(word, word | WAITERS, Relaxed, Relaxed).is_ok() {
                    return Err(Refused::Late);
                }
                continue;
            }
            if waiters == 0 && word & WAITERS == 0 && spin.again() {
                continue;
            }
            if word & WAITERS == 0 && self.word.compare_exchange(word, word | WAITERS, Relaxed, Relaxed).is_err() {
                continue;
            }
            waiters = WAITERS;
            late = self.word.sleep(word | WAITERS, deadline) == Slept::Late;
        }
    }

    /// Tells whether the calling thread has only a copy of its parent's guard, in the child of a
    /// fork.
    pub(crate) fn is_anothers(&self) -> bool {
        let thread = Thread::current();
        thread.shares(&self.link) && self.word.load(Relaxed) & OWNER != thread.id()
    }

    /// Releases the lock. Only for the thread that holds it.
    #[inline(always)]
    pub(crate) fn unlock(&self) {
        let thread = Thread::current();
        // A lock in the thread's list is in shared memory.
        if thread.holds_last(&self.link) && self.word.load(Relaxed) & OWNER == thread.id() {
            thread.begin(&self.link);
            thread.release_last(&self.link);
            self.release();
            thread.end();
        } else if thread.shares(&self.link) {
            self.unlock_shared(thread);
        } else {
            self.release();
        }
    }

    #[cold]
    fn unlock_shared(&self, thread: Thread) {
        // Otherwise this is the child of a fork, with a copy of its parent's guard.
        if self.word.load(Relaxed) & OWNER == thread.id() {
            thread.begin(&self.link);
            thread.release(&self.link);
            self.release();
            thread.end();
        }
    }

    #[inline(always)]
    fn release(&self) {
        if self.word.swap(0, Release) & WAITERS != 0 {
            self.word.wake(1);
        }
    }

    /// Sets whether the value is inconsistent. Only for the thread that holds the lock.
    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        if !self.is_anothers() {
            self.poisoned.store(u32::from(poisoned), Relaxed);
        }
    }

    /// Takes the lock, calls `set_poisoned(false)` and releases the lock. If this thread already
    /// holds it, only does the second.
    pub(crate) fn clear_poison(&self) {
        let locked = self.lock(Deadline::NEVER);
        self.set_poisoned(false);
        if locked.is_ok() {
            self.unlock();
        }
    }

    /// Tells whether the value is inconsistent, as far as is known. An owner may be about to change
    /// that.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed) != 0 || self.is_left_behind()
    }

    /// Tells whether this thread holds the lock.
    pub(crate) fn is_own(&self) -> bool {
        self.word.load(Relaxed) & OWNER == Thread::current().id()
    }

    /// Returns how often the owner holds the lock beyond once.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    pub(crate) fn set_depth(&self, depth: u32) {
        self.depth.store(depth, Relaxed);
    }

    /// Tells whether the owner died, and no thread has taken the lock since.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.word.load(Relaxed) & OWNER_DIED != 0
    }

    /// Tells whether a thread holds the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.word.load(Relaxed) & OWNER != 0
    }
}

#[cfg(all(test, loom))]
impl RawMutex {
    /// What the kernel does when the owner has died.
    pub(crate) fn die(&self) {
        let mut word = self.word.load(Relaxed);
        while let Err(now) = self.word.compare_exchange(word, word & WAITERS | OWNER_DIED, Release, Relaxed) {
            word = now;
        }
        if word & WAITERS != 0 {
            self.word.wake(1);
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    struct Counter {
        mutex: RawMutex,
        value: UnsafeCell<u32>,
    }

    // SAFETY: only the owner of the mutex uses the value, which loom checks.
    unsafe impl Sync for Counter {}
    // SAFETY: as above.
    unsafe impl Send for Counter {}

    impl Counter {
        fn new() -> Arc<Self> {
            Arc::new(Self { mutex: RawMutex::new(), value: UnsafeCell::new(0) })
        }

        fn count(&self) {
            // SAFETY: the caller holds the mutex.
            self.value.with_mut(|value| unsafe { *value += 1 });
        }

        fn add(&self) -> bool {
            let in_order = self.mutex.lock(Deadline::NEVER).unwrap();
            self.count();
            self.mutex.set_poisoned(false);
            self.mutex.unlock();
            in_order
        }
    }

    #[test]
    fn three_threads_exclude_each_other() {
        model(|| {
            let counter = Counter::new();
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let counter = Arc::clone(&counter);
                    thread::spawn(move || assert!(counter.add()))
                })
                .collect();
            assert!(counter.add());
            others.into_iter().for_each(|other| other.join().unwrap());
            // SAFETY: the other threads have ended.
            counter.value.with(|value| assert_eq!(unsafe { *value }, 3));
            assert_eq!(counter.mutex.word.load(Relaxed) & OWNER, 0);
        });
    }

    #[test]
    fn exactly_one_is_told_of_a_death() {
        model(|| {
            let counter = Counter::new();
            let dies = Arc::clone(&counter);
            let dying = thread::spawn(move || {
                let in_order = dies.mutex.lock(Deadline::NEVER).unwrap();
                dies.count();
                dies.mutex.die();
                in_order
            });
            let lives = Arc::clone(&counter);
            let living = thread::spawn(move || lives.add());
            let told = u32::from(!counter.add());
            let told_other = u32::from(!living.join().unwrap());
            let told_dying = u32::from(!dying.join().unwrap());
            assert_eq!(told_dying, 0);
            assert!(told + told_other <= 1);
            let last = u32::from(!counter.add());
            assert_eq!(told + told_other + last, 1);
        });
    }

    #[test]
    fn giving_up_takes_no_wake_up_along() {
        model(|| {
            let counter = Counter::new();
            let gives_up = Arc::clone(&counter);
            let other = thread::spawn(move || {
                // It is late after its first sleep.
                if gives_up.mutex.lock(Deadline::after(std::time::Duration::from_secs(1))).is_ok() {
                    gives_up.mutex.unlock();
                }
            });
            let waits = Arc::clone(&counter);
            let third = thread::spawn(move || waits.add());
            counter.add();
            other.join().unwrap();
            third.join().unwrap();
        });
    }
}
