//! A place where a number of parties wait for each other, again and again: a mutex, and a futex
//! that every change wakes.
//!
//! All words but `parties`, which never changes, are written under the mutex. `completed` and
//! `resets` count the generations that ended in these ways, which tells one from another; `history`
//! has a bit for each of the last 64, set if it was reset. `changes` is what those who wait sleep
//! on.
//!
//! | mode | arrived | the next to arrive | `abort`, a timeout | `reset` |
//! |---|---|---|---|---|
//! | filling | 0 | waits | broken | |
//! | filling | some | waits, or as the last ends the generation | broken | ends the generation |
//! | acting: the last runs its action | all | waits for the next generation | broken | ends the generation |
//! | broken | 0 | fails | | ends the generation, filling |
//!
//! 1. In a generation each number that `arrived` had is given out once. Only the last ends the
//!    generation as complete, and only if it is still the one in which it arrived, and not broken.
//!    Nobody holds the mutex while an action runs.
//! 2. A waiter remembers its generation. If none ended since, it waits, or the barrier is broken.
//!    If no reset ended one since, its own was completed; if nothing else did, it was reset;
//!    otherwise the bit of its own says which. After more than 64 generations, with both among
//!    them, the waiter takes itself for reset.
//! 3. A waiter has read `changes` under the mutex, together with the state in which it has to wait.
//!    A change of that state is followed by one of `changes`, under the mutex too, and then by a
//!    wake-up of all. So no sleeper is left behind, and the next generation does not wait until the
//!    last one has gone.
//!
//! Orderings: the mutex. What each party did before it arrived happens before the action, and what
//! the action did before all go on.
//!
//! **What a dead process leaves behind.** One that was killed after it arrived is counted. One that
//! was killed in its action leaves the barrier acting until a timeout, `abort` or `reset`. One that
//! was killed with the mutex may leave half a change: the next to take the mutex breaks the
//! barrier, and a sleeper looks for that from time to time. One that was killed after its change
//! and before its wake-up leaves sleepers who find the change when they look for themselves, a
//! moment later.

use std::thread::yield_now;

use crate::deadline::Deadline;
use crate::primitive::Ordering::{Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64, Futex, Slept};
use crate::raw::mutex::RawMutex;
use crate::spin::Spin;

/// As many parties as there can be.
pub(crate) const MOST: u32 = (1 << 20) - 1;

const FILLING: u32 = 0;
const ACTING: u32 = 1;
const BROKEN: u32 = 2;

/// Why a wait failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    ByOthers,
    ByTimeout,
}

/// All-zero bytes are one at which everybody is the last.
#[repr(C)]
pub(crate) struct RawBarrier {
    mutex: RawMutex,
    changes: Futex,
    parties: AtomicU32,
    arrived: AtomicU32,
    mode: AtomicU32,
    completed: AtomicU32,
    resets: AtomicU32,
    history: AtomicU64,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawBarrier>() == 72 && align_of::<RawBarrier>() == 8);
    assert!(std::mem::offset_of!(RawBarrier, changes) == 40);
    assert!(std::mem::offset_of!(RawBarrier, history) == 64);
};

/// How many generations had ended when this one began.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Generation {
    completed: u32,
    resets: u32,
}

impl Generation {
    /// Its bit in the history.
    fn bit(self) -> u64 {
        1 << (self.completed.wrapping_add(self.resets) % 64)
    }
}

/// The mutex, held.
struct BarrierGuard<'a>(&'a RawBarrier);

impl Drop for BarrierGuard<'_> {
    fn drop(&mut self) {
        self.0.mutex.unlock();
    }
}

impl<'a> BarrierGuard<'a> {
    fn generation(&self) -> Generation {
        Generation { completed: self.0.completed.load(Relaxed), resets: self.0.resets.load(Relaxed) }
    }

    fn mode(&self) -> u32 {
        self.0.mode.load(Relaxed)
    }

    /// Ends the generation. Others may wait for that if it `is_awaited`.
    fn end(self, is_reset: bool, is_awaited: bool) {
        let Self(barrier) = &self;
        let generation = self.generation();
        let history = barrier.history.load(Relaxed) & !generation.bit();
        barrier.history.store(if is_reset { history | generation.bit() } else { history }, Relaxed);
        barrier.arrived.store(0, Relaxed);
        barrier.mode.store(FILLING, Relaxed);
        match is_reset {
            true => barrier.resets.store(generation.resets.wrapping_add(1), Relaxed),
            false => barrier.completed.store(generation.completed.wrapping_add(1), Relaxed),
        }
        self.tell(is_awaited);
    }

    fn break_barrier(self) {
        self.0.mode.store(BROKEN, Relaxed);
        self.0.arrived.store(0, Relaxed);
        self.tell(true);
    }

    /// Has those who wait look at the state again.
    fn tell(self, is_awaited: bool) {
        let barrier = self.0;
        barrier.changes.fetch_add(1, Release);
        drop(self);
        if is_awaited {
            barrier.changes.wake_all();
        }
    }

    /// How it ended for one who arrived in `generation`, or `None` if it has not.
    fn judge(&self, generation: Generation) -> Option<Result<(), Broken>> {
        let now = self.generation();
        let completed = u64::from(now.completed.wrapping_sub(generation.completed));
        let resets = u64::from(now.resets.wrapping_sub(generation.resets));
        let was_reset = || completed + resets > 64 || self.0.history.load(Relaxed) & generation.bit() != 0;
        match (completed, resets) {
            (0, 0) => (self.mode() == BROKEN).then_some(Err(Broken::ByOthers)),
            (_, 0) => Some(Ok(())),
            (0, _) => Some(Err(Broken::ByOthers)),
            _ => Some(if was_reset() { Err(Broken::ByOthers) } else { Ok(()) }),
        }
    }

    /// Waits until `generation`, the present one, has ended, and breaks it at the deadline.
    fn wait(mut self, generation: Generation, deadline: Deadline) -> Result<(), Broken> {
        let barrier = self.0;
        loop {
            let changes = barrier.changes.load(Relaxed);
            drop(self);
            let is_late = !barrier.sleep(changes, deadline);
            self = barrier.lock();
            match self.judge(generation) {
                Some(result) => return result,
                None if is_late => {
                    self.break_barrier();
                    return Err(Broken::ByTimeout);
                }
                None => {}
            }
        }
    }
}

impl RawBarrier {
    const_fn! {
        pub(crate) fn new(parties: u32) -> Self {
            Self {
                mutex: RawMutex::new(),
                changes: Futex::new(0),
                parties: AtomicU32::new(parties),
                arrived: AtomicU32::new(0),
                mode: AtomicU32::new(FILLING),
                completed: AtomicU32::new(0),
                resets: AtomicU32::new(0),
                history: AtomicU64::new(0),
            }
        }
    }

    pub(crate) fn parties(&self) -> u32 {
        self.parties.load(Relaxed)
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.arrived.load(Relaxed)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.mode.load(Relaxed) == BROKEN
    }

    pub(crate) fn abort(&self) {
        let locked = self.lock();
        if locked.mode() != BROKEN {
            locked.break_barrier();
        }
    }

    pub(crate) fn reset(&self) {
        let locked = self.lock();
        if locked.mode() != FILLING || self.waiting() > 0 {
            locked.end(true, true);
        }
    }

    /// Arrives, and waits for all others. Gives how many were there before it.
    pub(crate) fn wait(&self, deadline: Deadline, action: Option<impl FnOnce()>) -> Result<u32, Broken> {
        loop {
            let locked = self.lock();
            let (generation, arrived) = (locked.generation(), self.waiting());
            let is_last = arrived.saturating_add(1) >= self.parties();
            match locked.mode() {
                FILLING if !is_last => {
                    self.arrived.store(arrived + 1, Relaxed);
                    return locked.wait(generation, deadline).map(|()| arrived);
                }
                FILLING => {
                    match action {
                        None => locked.end(false, arrived > 0),
                        Some(action) => {
                            self.arrived.store(arrived + 1, Relaxed);
                            self.mode.store(ACTING, Relaxed);
                            drop(locked);
                            self.act(generation, action)?;
                        }
                    }
                    return Ok(arrived);
                }
                // This one is none of the generation that is about to end, whatever becomes of
                // that.
                ACTING => match locked.wait(generation, deadline) {
                    Err(Broken::ByTimeout) => return Err(Broken::ByTimeout),
                    Ok(()) | Err(Broken::ByOthers) => {}
                },
                _ => return Err(Broken::ByOthers),
            }
        }
    }

    /// Runs the action as the last of a generation, and ends that, or breaks it if the action
    /// panics.
    fn act(&self, generation: Generation, action: impl FnOnce()) -> Result<(), Broken> {
        struct Acting<'a>(&'a RawBarrier, Generation);
        impl<'a> Acting<'a> {
            /// The barrier, if it is still waiting for the action.
            fn awaited(&self) -> Option<BarrierGuard<'a>> {
                let locked = self.0.lock();
                (locked.generation() == self.1 && locked.mode() == ACTING).then_some(locked)
            }
        }
        impl Drop for Acting<'_> {
            fn drop(&mut self) {
                if let Some(locked) = self.awaited() {
                    locked.break_barrier();
                }
            }
        }
        let acting = Acting(self, generation);
        action();
        let awaited = acting.awaited();
        std::mem::forget(acting);
        awaited.map(|locked| locked.end(false, true)).ok_or(Broken::ByOthers)
    }

    fn lock(&self) -> BarrierGuard<'_> {
        loop {
            match self.mutex.lock(Deadline::NEVER) {
                Ok(true) => return BarrierGuard(self),
                Ok(false) => {
                    self.mutex.set_poisoned(false);
                    BarrierGuard(self).break_barrier();
                }
                // A thread of another PID namespace, with the number of this one, has it.
                Err(_) => yield_now(),
            }
        }
    }

    /// Sleeps until there may be something to see, and tells whether that was before the deadline.
    fn sleep(&self, changes: u32, deadline: Deadline) -> bool {
        let mut spin = Spin::patient();
        while self.changes.load(Relaxed) == changes {
            if deadline != Deadline::PASSED && spin.again() {
                continue;
            }
            if self.changes.sleep(changes, deadline) == Slept::Late {
                return false;
            }
            if self.mutex.is_left_behind() {
                break;
            }
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn end(barrier: &RawBarrier, is_reset: bool) {
        barrier.lock().end(is_reset, true);
    }

    #[test]
    fn whoever_comes_late_learns_how_its_own_generation_ended() {
        // Every way in which ten generations end, for those of the first and for those who came
        // when others had ended already.
        for before in [0, 60, 1_000] {
            for ends in 0..1_u32 << 10 {
                let barrier = RawBarrier::new(2);
                (0..before).for_each(|number| end(&barrier, number % 3 == 0));
                let generation = barrier.lock().generation();
                for number in 0..10 {
                    assert!(number > 0 || barrier.lock().judge(generation).is_none());
                    end(&barrier, ends >> number & 1 == 1);
                    let was_completed = ends & 1 == 0;
                    assert_eq!(barrier.lock().judge(generation).unwrap().is_ok(), was_completed, "{ends:b} {number}");
                }
            }
        }
    }

    #[test]
    fn beyond_what_is_remembered_only_a_reset_is_in_doubt() {
        let judged = |ends: &[(u32, bool)]| {
            let barrier = RawBarrier::new(2);
            barrier.completed.store(u32::MAX - 2, Relaxed);
            barrier.resets.store(u32::MAX, Relaxed);
            let first = barrier.lock().generation();
            ends.iter().for_each(|(count, is_reset)| (0..*count).for_each(|_| end(&barrier, *is_reset)));
            barrier.lock().judge(first)
        };
        assert_eq!(judged(&[]), None);
        assert_eq!(judged(&[(1_000, false)]), Some(Ok(())));
        assert_eq!(judged(&[(1_000, true)]), Some(Err(Broken::ByOthers)));
        assert_eq!(judged(&[(1, false), (63, true)]), Some(Ok(())));
        assert_eq!(judged(&[(1, true), (63, false)]), Some(Err(Broken::ByOthers)));
        assert_eq!(judged(&[(1, false), (64, true)]), Some(Err(Broken::ByOthers)), "it may have been");
    }

    #[test]
    fn half_a_change_is_a_broken_barrier() {
        let barrier = RawBarrier::new(3);
        barrier.arrived.store(2, Relaxed);
        barrier.mutex.lock(Deadline::NEVER).unwrap();
        barrier.mutex.set_poisoned(true);
        barrier.mutex.unlock();
        assert_eq!(barrier.wait(Deadline::NEVER, None::<fn()>), Err(Broken::ByOthers));
        assert!(barrier.is_broken() && barrier.waiting() == 0);
        barrier.reset();
        assert_eq!(barrier.wait(Deadline::PASSED, None::<fn()>), Err(Broken::ByTimeout));
    }
}

#[cfg(all(test, loom))]
mod tests {
    use std::time::Duration;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::model;

    const NO_ACTION: Option<fn()> = None;

    #[test]
    fn each_generation_gives_each_number_once() {
        model(|| {
            let barrier = Arc::new(RawBarrier::new(2));
            let other = barrier.clone();
            let rounds = |barrier: &RawBarrier| [0; 2].map(|_: u32| barrier.wait(Deadline::NEVER, NO_ACTION).unwrap());
            let thread = thread::spawn(move || rounds(&other));
            let own = rounds(&barrier);
            let others = thread.join().unwrap();
            assert!((0..2).all(|round| own[round] + others[round] == 1), "{own:?} {others:?}");
        });
    }

    #[test]
    fn three_parties_meet() {
        model(|| {
            let barrier = Arc::new(RawBarrier::new(3));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let barrier = barrier.clone();
                    thread::spawn(move || barrier.wait(Deadline::NEVER, NO_ACTION).unwrap())
                })
                .collect();
            let mut numbers = vec![barrier.wait(Deadline::NEVER, NO_ACTION).unwrap()];
            numbers.extend(others.into_iter().map(|other| other.join().unwrap()));
            numbers.sort_unstable();
            assert_eq!(numbers, [0, 1, 2]);
        });
    }

    #[test]
    fn the_action_sees_what_all_did_before_and_all_see_what_it_did() {
        struct Sum(UnsafeCell<u32>, [UnsafeCell<u32>; 2], RawBarrier);
        model(|| {
            let cell = UnsafeCell::new;
            let sum = Arc::new(Sum(cell(0), [cell(0), cell(0)], RawBarrier::new(2)));
            let party = |sum: &Sum, number: usize| {
                // SAFETY: each thread writes its own before it arrives, which loom checks.
                sum.1[number].with_mut(|own| unsafe { *own = 1 });
                // SAFETY: nobody writes these any more, and nobody reads the sum yet, which loom
                // checks.
                let read = |cell: &UnsafeCell<u32>| cell.with(|own| unsafe { *own });
                let add = || {
                    let total = sum.1.iter().map(read).sum();
                    // SAFETY: as above.
                    sum.0.with_mut(|sum| unsafe { *sum = total });
                };
                sum.2.wait(Deadline::NEVER, Some(add)).unwrap();
                assert_eq!(read(&sum.0), 2);
            };
            let other = sum.clone();
            let thread = thread::spawn(move || party(&other, 0));
            party(&sum, 1);
            thread.join().unwrap();
        });
    }

    #[test]
    fn breaking_wakes_all_who_wait() {
        for end in [RawBarrier::abort, RawBarrier::reset] {
            model(move || {
                let barrier = Arc::new(RawBarrier::new(3));
                let others: Vec<_> = (0..2)
                    .map(|_| {
                        let barrier = barrier.clone();
                        thread::spawn(move || barrier.wait(Deadline::NEVER, NO_ACTION))
                    })
                    .collect();
                end(&barrier);
                // Who came after a reset waits for the next one.
                barrier.abort();
                for other in others {
                    assert_eq!(other.join().unwrap(), Err(Broken::ByOthers));
                }
            });
        }
    }

    #[test]
    fn either_all_are_in_time_or_nobody_is() {
        model(|| {
            let barrier = Arc::new(RawBarrier::new(2));
            let other = barrier.clone();
            let deadline = Deadline::after(Duration::from_secs(1));
            let late = thread::spawn(move || other.wait(deadline, NO_ACTION));
            let own = barrier.wait(Deadline::NEVER, NO_ACTION);
            match late.join().unwrap() {
                Ok(number) => assert_eq!(own, Ok(1 - number)),
                Err(Broken::ByTimeout) => assert!(own == Err(Broken::ByOthers) && barrier.is_broken()),
                Err(Broken::ByOthers) => panic!("nobody else breaks it"),
            }
        });
    }

    #[test]
    fn a_death_in_the_middle_of_a_change_is_found() {
        model(|| {
            let barrier = Arc::new(RawBarrier::new(3));
            let other = barrier.clone();
            let waiter = thread::spawn(move || other.wait(Deadline::NEVER, NO_ACTION));
            let locked = barrier.lock();
            barrier.arrived.store(7, Relaxed);
            std::mem::forget(locked);
            barrier.mutex.die();
            // Who comes next breaks it, be it the waiter, which may come later.
            assert_eq!(barrier.wait(Deadline::NEVER, NO_ACTION), Err(Broken::ByOthers));
            assert_eq!(waiter.join().unwrap(), Err(Broken::ByOthers));
            barrier.reset();
            assert_eq!(barrier.waiting(), 0);
        });
    }
}
