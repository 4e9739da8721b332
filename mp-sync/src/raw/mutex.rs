//! A mutex whose next owner is told when its owner died.
//!
//! # States
//!
//! The word is what the kernel's robust futexes ask for: the number of the owner's thread, or 0
//! when nobody has it; `WAITERS` when somebody may sleep over it; `OWNER_DIED` when the kernel
//! found it in the hands of a thread that ended.
//!
//! | word | |
//! |---|---|
//! | 0 | free |
//! | `owner` | held, nobody sleeps |
//! | `owner \| WAITERS` | held, somebody may sleep |
//! | `OWNER_DIED`, perhaps with `WAITERS` | free, but what it protects was left in the middle of something |
//! | `owner \| OWNER_DIED`, perhaps with `WAITERS` | taken in that state, and not written down in `poisoned` yet |
//!
//! `poisoned` belongs to the owner: whether what it protects was left in the middle of something,
//! and nobody has said since that it is in order again.
//!
//! # Invariants
//!
//! 1. Only a thread that finds no owner puts its number there, and only the owner, or the kernel
//!    for it, takes it out.
//! 2. `OWNER_DIED` is taken out after `poisoned` has been set: a thread that dies between leaves
//!    the kernel to set it again.
//! 3. Whoever sleeps has seen `WAITERS` in the word when it fell asleep. Who lets go of a word with
//!    it wakes one; that one, or whoever it wakes instead by leaving, puts `WAITERS` back, for it
//!    cannot know whether it was the last.
//! 4. From before the first change of the word to after the last one the lock is the pending one of
//!    the thread (`sys::robust`), and while the thread has it, it is in its list. A waiter that is
//!    killed after it was woken while the word is 0 is pending too: then the kernel wakes another
//!    one. If somebody else got the word meanwhile, or it says `OWNER_DIED`, the kernel does not:
//!    that wake-up is lost with the dead, and found missing by the next look of a sleeper
//!    (`primitive`).
//!
//! # Orderings
//!
//! Taking the word acquires what letting go of it released, from whichever process. The kernel's
//! change when an owner dies is made after all that the thread did, and is a full barrier.
//! `poisoned` is read and written by the owner only, so relaxed is enough.

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
    /// For the one who has it: how often, beyond once. (A mutex that is not reentrant leaves it 0.)
    depth: AtomicU32,
    reserved: [u32; 5],
    link: Link,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawMutex>() == 40 && align_of::<RawMutex>() == 8);
    assert!(std::mem::offset_of!(RawMutex, link) - std::mem::offset_of!(RawMutex, word) == crate::sys::robust::OFFSET);
};

/// Why there is no lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The deadline passed first.
    Late,
    /// The thread has it already.
    Own,
}

impl RawMutex {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { word: Futex::new(0), poisoned: AtomicU32::new(0), depth: AtomicU32::new(0), reserved: [0; 5], link: Link::new() }
        }
    }

    /// Takes it, and tells whether what it protects is in order.
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
                // It stays the pending one: one step less, and another less when it is let go.
                Ok(()) => thread.hold(&self.link),
                Err(_) => thread.end(),
            }
        }
        result.map(|()| self.poisoned.load(Relaxed) == 0)
    }

    #[cold]
    fn lock_contended(&self, thread: Thread, deadline: Deadline) -> Result<(), Refused> {
        let mut spin = Spin::brief();
        // What this thread puts into the word beside its number: once it has slept, others may
        // sleep too.
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
                        // Release: invariant 2. Who takes over from the dead sees it.
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
                // It may have been woken for this, and must not keep that to itself.
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

    /// Whether the thread that thinks it has it is the child of a fork, with a copy of its parent's
    /// guard.
    pub(crate) fn is_anothers(&self) -> bool {
        let thread = Thread::current();
        thread.shares(&self.link) && self.word.load(Relaxed) & OWNER != thread.id()
    }

    /// Lets go of it. Only for the thread that has it.
    #[inline(always)]
    pub(crate) fn unlock(&self) {
        let thread = Thread::current();
        // What is in the thread's list is in shared memory.
        if thread.holds_last(&self.link) && self.word.load(Relaxed) & OWNER == thread.id() {
            thread.begin(&self.link);
            thread.release_last();
            self.let_go();
            thread.end();
        } else if thread.shares(&self.link) {
            self.unlock_shared(thread);
        } else {
            self.let_go();
        }
    }

    #[cold]
    fn unlock_shared(&self, thread: Thread) {
        // Otherwise it is the child of a fork, with a copy of its parent's guard.
        if self.word.load(Relaxed) & OWNER == thread.id() {
            thread.begin(&self.link);
            thread.release(&self.link);
            self.let_go();
            thread.end();
        }
    }

    #[inline(always)]
    fn let_go(&self) {
        if self.word.swap(0, Release) & WAITERS != 0 {
            self.word.wake(1);
        }
    }

    /// Says that what it protects is not in order, or is again. Only for the thread that has it.
    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        if !self.is_anothers() {
            self.poisoned.store(u32::from(poisoned), Relaxed);
        }
    }

    /// The same as taking it, `set_poisoned(false)` and letting go of it; only the second if this
    /// thread has it.
    pub(crate) fn clear_poison(&self) {
        let locked = self.lock(Deadline::NEVER);
        self.set_poisoned(false);
        if locked.is_ok() {
            self.unlock();
        }
    }

    /// Whether what it protects is not in order, as far as anybody has found out. Somebody may have
    /// it, and be about to say otherwise.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed) != 0 || self.is_left_behind()
    }

    /// Whether this thread has it.
    pub(crate) fn is_own(&self) -> bool {
        self.word.load(Relaxed) & OWNER == Thread::current().id()
    }

    /// How often the thread that has it has it beyond once.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    pub(crate) fn set_depth(&self, depth: u32) {
        self.depth.store(depth, Relaxed);
    }

    /// Whether its owner died, and nobody has taken it since.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.word.load(Relaxed) & OWNER_DIED != 0
    }

    /// Whether somebody has it at this moment.
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

    // SAFETY: the value is used by the owner of the mutex; loom checks that.
    unsafe impl Sync for Counter {}
    // SAFETY: the same.
    unsafe impl Send for Counter {}

    impl Counter {
        fn new() -> Arc<Self> {
            Arc::new(Self { mutex: RawMutex::new(), value: UnsafeCell::new(0) })
        }

        fn count(&self) {
            // SAFETY: the caller has the mutex.
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
            // SAFETY: the others have ended.
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
                // Late after its first sleep.
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
