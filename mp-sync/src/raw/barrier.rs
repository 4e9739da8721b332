//! Lets a number of parties wait for each other, again and again.
//!
//! `state` contains, from its lowest bit: the number of arrived parties (20 bits), the mode (2),
//! how the last generations ended (10, one bit for each, the latest lowest, 1 for a reset), how
//! many generations ended by a reset (10), and how many by being complete (22). The last two
//! identify a generation. Sleepers sleep on `changes`: bit 0 says that there may be some, and the
//! other bits count changes. `parties` never changes.
//!
//! | mode | arrived | the next to arrive | `abort`, a timeout | `reset` |
//! |---|---|---|---|---|
//! | filling | 0 | waits | broken | |
//! | filling | some | waits, or ends the generation if it is the last | broken | ends the generation |
//! | acting: the last party runs its action | all | waits for the next generation | broken | ends the generation |
//! | broken | 0 | fails | | ends the generation, filling |
//!
//! 1. Every step is one compare-exchange of the whole state, so a killed process never leaves half
//!    a step.
//! 2. In a generation each value of `arrived` is given to one party, the one that incremented it.
//!    Only the last party completes the generation, and only if that is still current and not
//!    broken.
//! 3. A waiter remembers its generation. While that is the current one, the waiter waits, or the
//!    barrier is broken. If no generation was reset since then, its own was completed. If none was
//!    completed, it was reset. If both happened, the bit of its generation says which. After more
//!    than [`REMEMBERED`] generations, with a reset among them, the waiter assumes that its own was
//!    reset.
//! 4. A sleeper has read `changes`, and after that a state in which it has to wait, and has set bit
//!    0 by a compare-exchange of the value that it had read. A thread that changes the state so
//!    that others need not wait then changes `changes`, clears bit 0, and wakes all sleepers if it
//!    was set. So no sleeper is missed, and the next generation can begin before all sleepers of
//!    the last one run.
//!
//! Orderings: all steps of the state acquire and release. So what each party did before it arrived
//! happens before the last party's action, and, by the step that ends the generation, before all
//! parties go on. `changes` is acquired before the state is read, and released after the state was
//! changed.
//!
//! A process that is killed after it arrived still counts. If it was the last one, and had ended
//! the generation but not woken the sleepers, they notice when they check the state themselves, a
//! moment later. If it was in its action, the mode stays acting until a wait times out, or until
//! `abort` or `reset`.
//!
//! The counts of generations wrap after 2²² and 2¹⁰. A waiter that is stopped while exactly that
//! many pass takes the current generation for its own, or misses a reset.

use crate::deadline::Deadline;
use crate::primitive::{AtomicU32, AtomicU64, Futex, Ordering, Slept};
use crate::spin::Spin;

/// The greatest number of parties.
pub(crate) const MOST: u32 = (1 << 20) - 1;
/// For how many generations the state records how they ended.
const REMEMBERED: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Filling,
    Acting,
    Broken,
}

/// The fields of `state`.
#[derive(Clone, Copy)]
struct State {
    arrived: u32,
    mode: Mode,
    history: u32,
    resets: u32,
    completed: u32,
}

impl State {
    fn unpack(bits: u64) -> Self {
        let field = |from: u32, width: u32| (bits >> from) as u32 & ((1 << width) - 1);
        let mode = match field(20, 2) {
            0 => Mode::Filling,
            1 => Mode::Acting,
            _ => Mode::Broken,
        };
        Self { arrived: field(0, 20), mode, history: field(22, 10), resets: field(32, 10), completed: field(42, 22) }
    }

    fn pack(self) -> u64 {
        let field = |value: u32, from: u32, width: u32| u64::from(value & ((1 << width) - 1)) << from;
        field(self.arrived, 0, 20)
            | field(self.mode as u32, 20, 2)
            | field(self.history, 22, 10)
            | field(self.resets, 32, 10)
            | field(self.completed, 42, 22)
    }

    fn is_of(self, generation: Self) -> bool {
        self.resets == generation.resets && self.completed == generation.completed
    }

    fn complete(self) -> Self {
        let completed = self.completed.wrapping_add(1);
        Self { arrived: 0, mode: Mode::Filling, history: self.history << 1, completed, ..self }
    }

    fn reset(self) -> Self {
        let resets = self.resets.wrapping_add(1);
        Self { arrived: 0, mode: Mode::Filling, history: self.history << 1 | 1, resets, ..self }
    }

    fn broken(self) -> Self {
        Self { arrived: 0, mode: Mode::Broken, ..self }
    }

    /// Returns how `generation` ended for a party that arrived in it, or `None` if it has not
    /// ended.
    fn fate_of(self, generation: Self) -> Option<Result<(), Broken>> {
        let completed = self.completed.wrapping_sub(generation.completed) & ((1 << 22) - 1);
        let resets = self.resets.wrapping_sub(generation.resets) & ((1 << 10) - 1);
        let since = completed + resets;
        match (completed, resets) {
            (0, 0) => (self.mode == Mode::Broken).then_some(Err(Broken::ByOthers)),
            (_, 0) => Some(Ok(())),
            _ if completed > 0 && since <= REMEMBERED && self.history >> (since - 1) & 1 == 0 => Some(Ok(())),
            _ => Some(Err(Broken::ByOthers)),
        }
    }
}

/// Why a wait failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    ByOthers,
    ByTimeout,
}

#[repr(C)]
pub(crate) struct RawBarrier {
    state: AtomicU64,
    changes: Futex,
    parties: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawBarrier>() == 16 && align_of::<RawBarrier>() == 8);
    assert!(std::mem::offset_of!(RawBarrier, state) == 0);
    assert!(std::mem::offset_of!(RawBarrier, changes) == 8);
    assert!(std::mem::offset_of!(RawBarrier, parties) == 12);
};

impl RawBarrier {
    const_fn! {
        pub(crate) fn new(parties: u32) -> Self {
            Self { state: AtomicU64::new(0), changes: Futex::new(0), parties: AtomicU32::new(parties) }
        }
    }

    pub(crate) fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> u32 {
        State::unpack(self.state.load(Ordering::Acquire)).arrived
    }

    pub(crate) fn is_broken(&self) -> bool {
        State::unpack(self.state.load(Ordering::Acquire)).mode == Mode::Broken
    }

    pub(crate) fn abort(&self) {
        self.step(|state| (state.mode != Mode::Broken).then(|| state.broken()));
    }

    pub(crate) fn reset(&self) {
        self.step(|state| (state.mode != Mode::Filling || state.arrived > 0).then(|| state.reset()));
    }

    /// Arrives, and waits for all others. Returns how many arrived before.
    pub(crate) fn wait(&self, deadline: Deadline, action: Option<impl FnOnce()>) -> Result<u32, Broken> {
        let mut state = self.state.load(Ordering::Acquire);
        let mut waiting = Waiting::new(self, deadline);
        loop {
            let now = State::unpack(state);
            let is_last = now.arrived.saturating_add(1) >= self.parties();
            let next = match now.mode {
                Mode::Broken => return Err(Broken::ByOthers),
                Mode::Acting => {
                    // This party is not part of the generation that is about to end.
                    let _ = waiting.until_it_ends(now);
                    if waiting.is_late {
                        return Err(Broken::ByTimeout);
                    }
                    state = self.state.load(Ordering::Acquire);
                    continue;
                }
                Mode::Filling if !is_last => State { arrived: now.arrived + 1, ..now },
                Mode::Filling if action.is_some() => State { arrived: now.arrived + 1, mode: Mode::Acting, ..now },
                Mode::Filling => now.complete(),
            };
            match self.state.compare_exchange_weak(state, next.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Err(other) => state = other,
                Ok(_) if !is_last => return waiting.until_it_ends(now).map(|()| now.arrived),
                Ok(_) => {
                    match action {
                        Some(action) => self.act(now, action)?,
                        None if now.arrived > 0 => self.tell(),
                        // No other party waits.
                        None => {}
                    }
                    return Ok(now.arrived);
                }
            }
        }
    }

    /// Runs the action as the last party of a generation, and ends the generation.
    fn act(&self, generation: State, action: impl FnOnce()) -> Result<(), Broken> {
        let panicking = Panicking { barrier: self, generation };
        action();
        std::mem::forget(panicking);
        let acts = |state: State| state.is_of(generation) && state.mode == Mode::Acting;
        let is_complete = self.step(|state| acts(state).then(|| state.complete()));
        if is_complete { Ok(()) } else { Err(Broken::ByOthers) }
    }

    /// Changes the state to `next`, if that is `Some`, and wakes the waiters. Tells whether it did.
    fn step(&self, next: impl Fn(State) -> Option<State>) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while let Some(next) = next(State::unpack(state)) {
            match self.state.compare_exchange_weak(state, next.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.tell();
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Breaks the generation if it has not ended.
    fn break_generation(&self, generation: State) -> bool {
        self.step(|state| (state.is_of(generation) && state.mode != Mode::Broken).then(|| state.broken()))
    }

    /// Lets all waiters check the state again.
    fn tell(&self) {
        let mut changes = self.changes.load(Ordering::Relaxed);
        loop {
            let next = (changes & !1).wrapping_add(2);
            match self.changes.compare_exchange_weak(changes, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => changes = now,
            }
        }
        if changes & 1 != 0 {
            self.changes.wake_all();
        }
    }
}

/// A thread that waits for the end of a generation.
struct Waiting<'a> {
    barrier: &'a RawBarrier,
    deadline: Deadline,
    /// Whether it timed out and broke the barrier.
    is_late: bool,
}

impl<'a> Waiting<'a> {
    fn new(barrier: &'a RawBarrier, deadline: Deadline) -> Self {
        Self { barrier, deadline, is_late: false }
    }

    fn until_it_ends(&mut self, generation: State) -> Result<(), Broken> {
        let fate_of = || State::unpack(self.barrier.state.load(Ordering::Acquire)).fate_of(generation);
        let mut spin = Spin::patient();
        while self.deadline != Deadline::PASSED && spin.again() {
            if let Some(result) = fate_of() {
                return result;
            }
        }
        loop {
            let changes = self.barrier.changes.load(Ordering::Acquire);
            if let Some(result) = fate_of() {
                return result;
            }
            let mut is_late = self.deadline == Deadline::PASSED;
            if !is_late {
                let asleep = changes | 1;
                let word = &self.barrier.changes;
                if changes != asleep
                    && word.compare_exchange(changes, asleep, Ordering::Relaxed, Ordering::Relaxed).is_err()
                {
                    continue;
                }
                is_late = word.sleep(asleep, self.deadline) == Slept::Late;
            }
            if is_late && self.barrier.break_generation(generation) {
                self.is_late = true;
                return Err(Broken::ByTimeout);
            }
        }
    }
}

/// Breaks the generation if its action panics.
struct Panicking<'a> {
    barrier: &'a RawBarrier,
    generation: State,
}

impl Drop for Panicking<'_> {
    fn drop(&mut self) {
        self.barrier.break_generation(self.generation);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NEW: State = State { arrived: 0, mode: Mode::Filling, history: 0, resets: 0, completed: 0 };

    #[test]
    fn packing_keeps_each_field_to_itself() {
        for mode in [Mode::Filling, Mode::Acting, Mode::Broken] {
            let state = State { arrived: MOST, mode, history: 0x2AA, resets: 0x3FF, completed: 0x15_5555 };
            let back = State::unpack(state.pack());
            assert_eq!((back.arrived, back.history, back.resets), (MOST, 0x2AA, 0x3FF));
            assert!(back.completed == 0x15_5555 && back.mode == mode);
        }
    }

    #[test]
    fn whoever_comes_late_learns_how_its_own_generation_ended() {
        // All ways in which up to ten generations can end.
        for ends in 0..1_u32 << REMEMBERED {
            for count in 1..=REMEMBERED {
                let end = |state: State, number| if ends >> number & 1 == 0 { state.complete() } else { state.reset() };
                let state = State::unpack((0..count).fold(NEW, end).pack());
                let was_completed = ends & 1 == 0;
                assert_eq!(state.fate_of(NEW).unwrap().is_ok(), was_completed, "{ends:b} {count}");
            }
        }
    }

    #[test]
    fn beyond_what_is_remembered_only_a_reset_is_in_doubt() {
        let completed = (0..100).fold(NEW, |state, _| State::unpack(state.complete().pack()));
        assert_eq!(completed.fate_of(NEW), Some(Ok(())));
        assert_eq!(completed.reset().fate_of(NEW), Some(Err(Broken::ByOthers)));
        let reset = (0..100).fold(NEW, |state, _| State::unpack(state.reset().pack()));
        assert_eq!(reset.fate_of(NEW), Some(Err(Broken::ByOthers)));
        assert_eq!(NEW.fate_of(NEW), None);
        assert_eq!(NEW.broken().fate_of(NEW), Some(Err(Broken::ByOthers)));
        // The counts wrap, even between the two looks.
        let last = State { resets: 0x3FF, completed: 0x3F_FFFF, ..NEW };
        assert_eq!(State::unpack(last.complete().pack()).fate_of(last), Some(Ok(())));
        assert_eq!(State::unpack(last.reset().pack()).fate_of(last), Some(Err(Broken::ByOthers)));
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
                // SAFETY: each thread writes its own cell before it arrives, which loom checks.
                sum.1[number].with_mut(|own| unsafe { *own = 1 });
                // SAFETY: no thread writes these any more, and none reads the sum yet, which loom
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
                // A thread that arrives after a reset waits for the next one.
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
}
