//! A readers-writer lock that survives the death of its readers and reports the death of its
//! writers.
//!
//! Each reader holds a slot (`raw::slots`). A writer takes the *turn*, a mutex, sets `CLOSED` in
//! `state`, and waits until no slot is held. A reader that finds a writer or no free slot takes the
//! turn as well; it then takes its slot and releases the turn. A semaphore whose permits are slots
//! works in the same way, without writers.
//!
//! # States
//!
//! | `state` | |
//! |---|---|
//! | 0 | readers enter without the turn |
//! | `CLOSED` | readers have to wait for the turn. Its owner is a writer that waits for readers, or a reader that waits for a slot |
//! | `CLOSED \| WRITING` | a writer has exclusive access to the value |
//!
//! Each may have `POISONED` as well: a writer died or panicked while it held the lock, and no
//! writer has marked the value as consistent since.
//!
//! # Invariants
//!
//! 1. Only the owner of the turn changes `state`. After the death of an owner, the next one repairs
//!    `state`: `WRITING` becomes `POISONED`, and `CLOSED` is removed. No thread waits for `state`
//!    to change. A reader that finds `CLOSED` waits for the turn, which the kernel passes on when
//!    its owner dies.
//! 2. A writer sets `WRITING` after it has set `CLOSED` and then seen each slot free. It removes
//!    both before it releases the turn.
//! 3. A reader that took its slot without the turn then reads `state`, and releases the slot if
//!    that is `CLOSED`. So a slot that is held while `WRITING` is set belongs to a thread that is
//!    about to release it and has not read the value.
//! 4. A thread that has a slot and enters again shares the slot, because no thread can be writing.
//!    It does not wait, because a writer may be waiting for it.
//! 5. A thread that waits for slots has the turn, so it is the only one that does.
//! 6. `POISONED` is set only for a writer that died while `WRITING`, because the others have not
//!    changed the value.
//!
//! # Orderings
//!
//! A reader takes a slot and then reads `state`; a writer sets `CLOSED` and then reads the slots.
//! These steps are sequentially consistent, so at least one of the two sees the other. (For loom
//! that needs fences.) A writer that sees a slot free acquires what the reader did before it
//! released the slot. A reader that sees `state` open acquires what the writer did before it opened
//! `state`, and a reader with the turn acquires that with the turn. If a writer dies, the kernel
//! changes the turn's word after everything that the writer did.

use std::sync::atomic::compiler_fence;

use super::mutex::{RawMutex, Refused};
use super::slots::{Slots, TakenSlot};
use crate::deadline::Deadline;
use crate::primitive::Ordering::{Relaxed, Release, SeqCst};
#[cfg(loom)]
use crate::primitive::fence;
use crate::primitive::{AtomicU32, Thread};

const CLOSED: u32 = 1;
const WRITING: u32 = 2;
const POISONED: u32 = 4;

#[repr(C)]
pub(crate) struct RawRwLock<const N: usize> {
    turn: RawMutex,
    state: AtomicU32,
    /// How many of the slots are not used.
    unused: u32,
    reserved: [u32; 4],
    slots: Slots<N>,
}

#[cfg(not(loom))]
const _: () = {
    assert!(std::mem::offset_of!(RawRwLock<32>, state) == 40 && std::mem::offset_of!(RawRwLock<32>, slots) == 64);
    assert!(size_of::<RawRwLock<32>>() == 64 + 32 * 16 && align_of::<RawRwLock<32>>() == 8);
};

/// A reader's slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    pub(crate) slot: usize,
    /// Whether the value is consistent.
    pub(crate) in_order: bool,
}

fn is_in_order(state: u32) -> bool {
    state & (WRITING | POISONED) == 0
}

/// Returns the state without an owner.
fn open(state: u32) -> u32 {
    if is_in_order(state) { 0 } else { POISONED }
}

impl<const N: usize> RawRwLock<N> {
    const_fn! {
        /// Makes a lock for `places` readers, from 1 to `N`.
        pub(crate) fn new(places: u32) -> Self {
            assert!(places > 0 && places as usize <= N, "the number of places has to be from 1 to the capacity");
            Self {
                turn: RawMutex::new(),
                state: AtomicU32::new(0),
                unused: N as u32 - places,
                reserved: [0; 4],
                slots: Slots::new(),
            }
        }
    }

    fn places(&self) -> usize {
        // At least one slot is used, but other processes may write there.
        N - (self.unused as usize).min(N - 1)
    }

    /// Enters as a reader. If `again`, a thread that has a slot may share it.
    #[inline]
    pub(crate) fn enter(&self, deadline: Deadline, again: bool) -> Result<Entered, Refused> {
        let thread = Thread::current();
        // This first check is not needed for correctness: it avoids disturbing a writer.
        if self.state.load(Relaxed) & CLOSED == 0 {
            if let Some(taken) = self.slots.try_take(thread, self.places(), again) {
                #[cfg(loom)]
                fence(SeqCst);
                let state = self.state.load(SeqCst);
                if state & CLOSED == 0 || taken.again && state & WRITING == 0 {
                    return Ok(Entered { slot: taken.index, in_order: is_in_order(state) });
                }
                self.slots.give_back(taken.index);
            }
        }
        self.enter_in_turn(thread, deadline, again)
    }

    #[cold]
    fn enter_in_turn(&self, thread: Thread, deadline: Deadline, again: bool) -> Result<Entered, Refused> {
        // No thread writes while another one has a slot. If one does, the ID in the slot is that of
        // a dead thread whose death went unnoticed (it held too many locks, or the memory is not
        // registered), and the kernel gave the ID to this thread.
        if again && self.state.load(SeqCst) & WRITING == 0 {
            if let Some(TakenSlot { index, .. }) = self.slots.take_again(thread, self.places()) {
                return Ok(Entered { slot: index, in_order: is_in_order(self.state.load(Relaxed)) });
            }
        }
        self.turn.lock(deadline)?;
        let open = self.take_over();
        let mut taken = self.slots.try_take(thread, self.places(), false);
        if taken.is_none() {
            // Later readers must not take the next free slot.
            self.state.store(open | CLOSED, Relaxed);
            taken = self.slots.take(thread, self.places(), deadline);
            self.state.store(open, Release);
        }
        self.turn.unlock();
        let TakenSlot { index, .. } = taken.ok_or(Refused::Late)?;
        Ok(Entered { slot: index, in_order: is_in_order(open) })
    }

    /// Repairs `state` if the last owner of the turn died, and returns it.
    fn take_over(&self) -> u32 {
        let left = self.state.load(Relaxed);
        let open = open(left);
        if left != open {
            self.state.store(open, Release);
        }
        open
    }

    /// Leaves as a reader.
    #[inline]
    pub(crate) fn leave(&self, slot: usize) {
        self.slots.give_back(slot);
    }

    /// Enters as the writer, and tells whether the value is consistent.
    #[inline]
    pub(crate) fn write(&self, deadline: Deadline) -> Result<bool, Refused> {
        match self.turn.lock(Deadline::PASSED) {
            Err(Refused::Late) => self.wait_to_write(deadline)?,
            result => result?,
        };
        let open = open(self.state.load(Relaxed));
        self.state.store(open | CLOSED, SeqCst);
        #[cfg(loom)]
        fence(SeqCst);
        let result = self.slots.wait_for_all(Thread::current(), self.places(), deadline);
        if result.is_ok() {
            self.state.store(open | CLOSED | WRITING, Relaxed);
            // Before the first change of the value, in case this thread dies while it writes.
            compiler_fence(SeqCst);
        } else {
            self.state.store(open, Release);
            self.turn.unlock();
        }
        result.map(|()| is_in_order(open))
    }

    /// Waits for the turn, unless this thread is a reader, for which the owner of the turn may be
    /// waiting.
    #[cold]
    fn wait_to_write(&self, deadline: Deadline) -> Result<bool, Refused> {
        if self.slots.has_one(Thread::current(), self.places()) {
            return Err(Refused::Own);
        }
        self.turn.lock(deadline)
    }

    /// Sets whether the value is inconsistent. Only for the writer.
    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        if !self.turn.is_anothers() {
            let poisoned = if poisoned { POISONED } else { 0 };
            self.state.store(CLOSED | WRITING | poisoned, Relaxed);
        }
    }

    /// Marks the value as consistent, as the writer, which this thread may already be. A reader
    /// changes nothing.
    pub(crate) fn clear_poison(&self) {
        let entered = self.write(Deadline::NEVER);
        if entered.is_ok() || self.turn.is_own() {
            self.set_poisoned(false);
        }
        if entered.is_ok() {
            self.unlock();
        }
    }

    /// Tells whether the value is inconsistent, as far as is known.
    pub(crate) fn is_poisoned(&self) -> bool {
        let state = self.state.load(Relaxed);
        state & POISONED != 0 || state & WRITING != 0 && self.turn.is_left_behind()
    }

    /// Leaves as the writer.
    #[inline]
    pub(crate) fn unlock(&self) {
        if !self.turn.is_anothers() {
            self.state.store(self.state.load(Relaxed) & POISONED, Release);
            self.turn.unlock();
        }
    }

    /// Becomes a reader, without letting another writer in between.
    pub(crate) fn downgrade(&self) -> usize {
        let thread = Thread::current();
        // Other threads hold slots only for as long as it takes to read `state`.
        let taken = loop {
            if let Some(taken) = self.slots.take(thread, self.places(), Deadline::NEVER) {
                break taken;
            }
        };
        self.unlock();
        taken.index
    }

    /// Returns how many readers could enter now.
    pub(crate) fn free(&self) -> usize {
        self.slots.free(self.places())
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    struct Guarded {
        lock: RawRwLock<4>,
        value: UnsafeCell<u32>,
    }

    // SAFETY: only the writer changes the value, and only readers read it, which loom checks.
    unsafe impl Sync for Guarded {}
    // SAFETY: as above.
    unsafe impl Send for Guarded {}

    impl Guarded {
        fn new(places: u32) -> Arc<Self> {
            Arc::new(Self { lock: RawRwLock::new(places), value: UnsafeCell::new(0) })
        }

        fn look(&self) -> u32 {
            // SAFETY: the caller has entered.
            self.value.with(|value| unsafe { *value })
        }

        fn count(&self) {
            // SAFETY: the caller has entered as the writer.
            self.value.with_mut(|value| unsafe { *value += 1 });
        }

        fn read(&self) -> (u32, bool) {
            let entered = self.lock.enter(Deadline::NEVER, true).unwrap();
            let value = self.look();
            self.lock.leave(entered.slot);
            (value, entered.in_order)
        }

        fn add(&self) -> bool {
            let in_order = self.lock.write(Deadline::NEVER).unwrap();
            self.count();
            self.lock.unlock();
            in_order
        }

        /// The state when no thread has entered.
        fn check(&self, state: u32) {
            assert_eq!(self.lock.state.load(Relaxed), state);
            assert_eq!(self.lock.free(), self.lock.places());
            assert!(!self.lock.turn.is_locked());
        }
    }

    fn spawn<R: 'static>(shared: &Arc<Guarded>, run: impl FnOnce(&Guarded) -> R + 'static) -> thread::JoinHandle<R> {
        let shared = Arc::clone(shared);
        thread::spawn(move || run(&shared))
    }

    #[test]
    fn a_writer_is_alone() {
        model(|| {
            let shared = Guarded::new(2);
            let reader = spawn(&shared, |shared| assert!(shared.read().1));
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            assert!(shared.read().1);
            reader.join().unwrap();
            writer.join().unwrap();
            assert_eq!(shared.read(), (1, true));
            shared.check(0);
        });
    }

    #[test]
    fn two_writers_and_a_reader() {
        model(|| {
            let shared = Guarded::new(2);
            let others = [0, 1].map(|_| spawn(&shared, |shared| assert!(shared.add())));
            assert!(shared.read().1);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(shared.read(), (2, true));
            shared.check(0);
        });
    }

    #[test]
    fn readers_wait_for_a_slot() {
        model(|| {
            let shared = Guarded::new(1);
            let others = [0, 1].map(|_| spawn(&shared, |shared| shared.read()));
            assert_eq!(shared.read(), (0, true));
            others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), (0, true)));
            shared.check(0);
        });
    }

    #[test]
    fn a_writer_and_readers_that_wait_for_a_slot() {
        model(|| {
            let shared = Guarded::new(1);
            let reader = spawn(&shared, |shared| assert!(shared.read().1));
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            assert!(shared.read().1);
            reader.join().unwrap();
            writer.join().unwrap();
            assert_eq!(shared.read(), (1, true));
            shared.check(0);
        });
    }

    #[test]
    fn whoever_reads_already_is_not_held_up_by_a_writer() {
        model(|| {
            let shared = Guarded::new(2);
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            let first = shared.lock.enter(Deadline::NEVER, true).unwrap();
            let value = shared.look();
            assert_eq!(shared.read(), (value, true));
            shared.lock.leave(first.slot);
            writer.join().unwrap();
            shared.check(0);
        });
    }

    #[test]
    fn a_reader_that_dies_holds_no_writer_up() {
        model(|| {
            let shared = Guarded::new(2);
            let dies = spawn(&shared, |shared| {
                let entered = shared.lock.enter(Deadline::NEVER, true).unwrap();
                shared.look();
                shared.lock.slots.die(entered.slot);
            });
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            dies.join().unwrap();
            writer.join().unwrap();
            assert_eq!(shared.read(), (1, true));
            shared.check(0);
        });
    }

    #[test]
    fn a_reader_that_dies_leaves_its_slot_to_another() {
        model(|| {
            let shared = Guarded::new(1);
            let dies = spawn(&shared, |shared| {
                let entered = shared.lock.enter(Deadline::NEVER, true).unwrap();
                shared.lock.slots.die(entered.slot);
            });
            assert!(shared.read().1);
            dies.join().unwrap();
            shared.check(0);
        });
    }

    #[test]
    fn a_writer_that_dies_is_told_of() {
        model(|| {
            let shared = Guarded::new(2);
            let dies = spawn(&shared, |shared| {
                assert!(shared.lock.write(Deadline::NEVER).unwrap());
                shared.count();
                shared.lock.turn.die();
            });
            let reader = spawn(&shared, |shared| {
                let (value, in_order) = shared.read();
                assert_eq!(value == 0, in_order);
            });
            let (value, in_order) = shared.read();
            assert_eq!(value == 0, in_order);
            dies.join().unwrap();
            reader.join().unwrap();
            assert!(!shared.lock.write(Deadline::NEVER).unwrap());
            shared.lock.set_poisoned(false);
            shared.lock.unlock();
            assert_eq!(shared.read(), (1, true));
            shared.check(0);
        });
    }

    #[test]
    fn a_writer_that_dies_before_it_writes_is_not() {
        model(|| {
            let shared = Guarded::new(2);
            let dies = spawn(&shared, |shared| {
                shared.lock.turn.lock(Deadline::NEVER).unwrap();
                shared.lock.state.store(CLOSED, SeqCst);
                fence(SeqCst);
                shared.lock.turn.die();
            });
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            assert!(shared.read().1);
            dies.join().unwrap();
            writer.join().unwrap();
            assert_eq!(shared.read(), (1, true));
            shared.check(0);
        });
    }

    #[test]
    fn a_writer_that_gives_up_lets_the_others_in() {
        model(|| {
            let shared = Guarded::new(2);
            let writer = spawn(&shared, |shared| {
                // It is late after its first sleep.
                if shared.lock.write(Deadline::after(std::time::Duration::from_secs(1))).is_ok() {
                    shared.lock.unlock();
                }
            });
            let reader = spawn(&shared, |shared| assert!(shared.read().1));
            assert!(shared.read().1);
            writer.join().unwrap();
            reader.join().unwrap();
            shared.check(0);
        });
    }

    #[test]
    fn a_writer_becomes_a_reader() {
        model(|| {
            let shared = Guarded::new(2);
            let writer = spawn(&shared, |shared| assert!(shared.add()));
            assert!(shared.lock.write(Deadline::NEVER).unwrap());
            shared.count();
            let value = shared.look();
            let slot = shared.lock.downgrade();
            assert_eq!(shared.look(), value);
            shared.lock.leave(slot);
            writer.join().unwrap();
            assert_eq!(shared.read(), (2, true));
            shared.check(0);
        });
    }
}
