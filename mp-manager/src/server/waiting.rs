//! Objects that calls wait for.
//!
//! A call that waits is a [`Waiter`] in its object and holds no thread. Whatever changes an object
//! ends with `settle`, which answers those that need not wait any longer, in the order in which
//! they came. Even a call that need not wait at all is first a waiter.
//!
//! | a client dies | |
//! |---|---|
//! | waiting | its waiters go; a barrier is broken |
//! | with a lock | the next owner learns it |
//! | with permits | they return |
//! | with a value of a queue that it has not acknowledged | the value returns to the front |
//!
//! A client acknowledges a value when it has it, so a value is lost only with a client that had it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::error::CallError;
use crate::value::Value;
use crate::wire::{Body, Initial, Operation};

/// A call that waits, or that would.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) client: u64,
    pub(super) call: u64,
}

/// Answers for calls that waited.
pub(super) type Answers = Vec<(Waiter, Body)>;

/// What an operation of an object that calls wait for comes to.
pub(super) enum Done {
    Answer(Body),
    /// It waits, unless the answers have its own already.
    Waits(Option<Duration>),
    /// The client expects no answer.
    Silent,
    Mismatch,
}

pub(super) enum Waiting {
    Queue(Queue),
    Lock(Lock),
    Semaphore(Semaphore),
    Event(Event),
    Barrier(Barrier),
}

impl Waiting {
    pub(super) fn new(initial: Initial) -> Self {
        match initial {
            Initial::Queue(capacity) => Self::Queue(Queue { capacity, ..Queue::default() }),
            Initial::Semaphore { permits, bound } => {
                Self::Semaphore(Semaphore { permits, bound, ..Semaphore::default() })
            }
            Initial::Event(is_set) => Self::Event(Event { is_set, ..Event::default() }),
            Initial::Barrier(parties) => Self::Barrier(Barrier { parties, ..Barrier::default() }),
            Initial::Lock | Initial::Map | Initial::List | Initial::Cell(_) => Self::Lock(Lock::default()),
        }
    }

    pub(super) fn apply(&mut self, operation: Operation, who: Waiter, answers: &mut Answers) -> Done {
        let done = match self {
            Self::Queue(queue) => queue.apply(operation, who),
            Self::Lock(lock) => lock.apply(operation, who),
            Self::Semaphore(semaphore) => semaphore.apply(operation, who),
            Self::Event(event) => event.apply(operation, who),
            Self::Barrier(barrier) => barrier.apply(operation, who, answers),
        };
        self.settle(answers);
        done
    }

    fn settle(&mut self, answers: &mut Answers) {
        match self {
            Self::Queue(queue) => queue.settle(answers),
            Self::Lock(lock) => lock.settle(answers),
            Self::Semaphore(semaphore) => semaphore.settle(answers),
            Self::Event(event) => event.settle(answers),
            Self::Barrier(barrier) => barrier.settle(answers),
        }
    }

    /// The time of a call that waits is over.
    pub(super) fn give_up(&mut self, who: Waiter, answers: &mut Answers) {
        let waited = match self {
            Self::Queue(queue) => match remove(&mut queue.getters, |getter| *getter == who) {
                Some(_) => {
                    answers.push((who, Body::Value(None)));
                    false
                }
                None => remove(&mut queue.putters, |(putter, _)| *putter == who).is_some(),
            },
            Self::Lock(lock) => lock.give_up(who),
            Self::Semaphore(semaphore) => remove(&mut semaphore.waiters, |(waiter, _)| *waiter == who).is_some(),
            Self::Event(event) => remove(&mut event.waiters, |waiter| *waiter == who).is_some(),
            Self::Barrier(barrier) => match remove(&mut barrier.waiters, |waiter| *waiter == who) {
                Some(_) => {
                    barrier.broken = true;
                    answers.push((who, Body::Failed(CallError::BrokenBarrier)));
                    false
                }
                None => false,
            },
        };
        if waited {
            answers.push((who, Body::Flag(false)));
        }
        self.settle(answers);
    }

    /// A client has ended.
    pub(super) fn forget(&mut self, client: u64, answers: &mut Answers) {
        match self {
            Self::Queue(queue) => {
                queue.getters.retain(|getter| getter.client != client);
                queue.putters.retain(|(putter, _)| putter.client != client);
                for (_, value) in queue.given.remove(&client).into_iter().flatten().rev() {
                    queue.values.push_front(value);
                }
            }
            Self::Lock(lock) => {
                lock.waiters.retain(|(waiter, _)| waiter.client != client);
                lock.sleepers.retain(|sleeper| sleeper.client != client);
                if lock.holder.is_some_and(|(holder, _)| holder == client) {
                    lock.holder = None;
                    lock.owner_died = true;
                }
            }
            Self::Semaphore(semaphore) => {
                semaphore.waiters.retain(|(waiter, _)| waiter.client != client);
                semaphore.permits = semaphore.permits.saturating_add(semaphore.held.remove(&client).unwrap_or(0));
            }
            Self::Event(event) => event.waiters.retain(|waiter| waiter.client != client),
            Self::Barrier(barrier) => {
                let before = barrier.waiters.len();
                barrier.waiters.retain(|waiter| waiter.client != client);
                barrier.broken |= barrier.waiters.len() < before;
            }
        }
        self.settle(answers);
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.values.len() as u64,
            _ => 0,
        }
    }
}

fn remove<T>(from: &mut VecDeque<T>, is: impl Fn(&T) -> bool) -> Option<T> {
    let place = from.iter().position(is)?;
    from.remove(place)
}

#[derive(Default)]
pub(super) struct Queue {
    /// How many values there may be.
    capacity: Option<u64>,
    values: VecDeque<Value>,
    getters: VecDeque<Waiter>,
    putters: VecDeque<(Waiter, Value)>,
    /// What was sent and not acknowledged, by client and call.
    given: HashMap<u64, BTreeMap<u64, Value>>,
}

impl Queue {
    fn apply(&mut self, operation: Operation, who: Waiter) -> Done {
        match operation {
            Operation::Put(value, timeout) => {
                self.putters.push_back((who, value));
                Done::Waits(timeout)
            }
            Operation::Take(timeout) => {
                self.getters.push_back(who);
                Done::Waits(timeout)
            }
            Operation::Acknowledge(call) => {
                if let Some(given) = self.given.get_mut(&who.client) {
                    given.remove(&call);
                    if given.is_empty() {
                        self.given.remove(&who.client);
                    }
                }
                Done::Silent
            }
            Operation::Len => Done::Answer(Body::Number(self.values.len() as u64)),
            Operation::Clear => {
                self.values.clear();
                Done::Answer(Body::Done)
            }
            _ => Done::Mismatch,
        }
    }

    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| (self.values.len() as u64) < capacity)
    }

    fn settle(&mut self, answers: &mut Answers) {
        loop {
            while self.has_room() && !self.putters.is_empty() {
                if let Some((putter, value)) = self.putters.pop_front() {
                    self.values.push_back(value);
                    answers.push((putter, Body::Flag(true)));
                }
            }
            if self.values.is_empty() || self.getters.is_empty() {
                return;
            }
            if let (Some(value), Some(getter)) = (self.values.pop_front(), self.getters.pop_front()) {
                self.given.entry(getter.client).or_default().insert(getter.call, value.clone());
                answers.push((getter, Body::Value(Some(value))));
            }
        }
    }
}

/// Why a call waits for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It locks.
    Locks,
    /// It waited for a condition and takes its lock again. It cannot give up.
    Returns { notified: bool },
}

/// A lock, and those that wait for the condition that goes with it.
#[derive(Default)]
pub(super) struct Lock {
    holder: Option<(u64, u64)>,
    owner_died: bool,
    last_token: u64,
    waiters: VecDeque<(Waiter, Reason)>,
    sleepers: VecDeque<Waiter>,
}

impl Lock {
    fn apply(&mut self, operation: Operation, who: Waiter) -> Done {
        match operation {
            Operation::Acquire(_, timeout) => {
                self.waiters.push_back((who, Reason::Locks));
                Done::Waits(timeout)
            }
            // A token of an owner that was taken for dead is ignored.
            Operation::Release(token) => {
                if self.is_held_by(who, token) {
                    self.holder = None;
                }
                Done::Silent
            }
            Operation::Sleep(token, timeout) => {
                if !self.is_held_by(who, token) {
                    return Done::Answer(Body::Failed(CallError::NotHeld));
                }
                self.holder = None;
                self.sleepers.push_back(who);
                Done::Waits(timeout)
            }
            Operation::Notify(token, count) => {
                if !self.is_held_by(who, token) {
                    return Done::Answer(Body::Failed(CallError::NotHeld));
                }
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.sleepers.len());
                let woken = self.sleepers.drain(..count);
                self.waiters.extend(woken.map(|sleeper| (sleeper, Reason::Returns { notified: true })));
                Done::Answer(Body::Done)
            }
            _ => Done::Mismatch,
        }
    }

    /// Tells whether the client of this call has the lock, with this token. Another one cannot
    /// release it, whatever it sends.
    fn is_held_by(&self, who: Waiter, token: u64) -> bool {
        self.holder == Some((who.client, token))
    }

    /// Tells whether the call was one that waited for the lock and now does not.
    fn give_up(&mut self, who: Waiter) -> bool {
        if let Some(sleeper) = remove(&mut self.sleepers, |sleeper| *sleeper == who) {
            self.waiters.push_back((sleeper, Reason::Returns { notified: false }));
            return false;
        }
        remove(&mut self.waiters, |waiter| *waiter == (who, Reason::Locks)).is_some()
    }

    fn settle(&mut self, answers: &mut Answers) {
        if self.holder.is_some() {
            return;
        }
        if let Some((waiter, reason)) = self.waiters.pop_front() {
            self.last_token += 1;
            self.holder = Some((waiter.client, self.last_token));
            let notified = reason != Reason::Returns { notified: false };
            let owner_died = std::mem::take(&mut self.owner_died);
            answers.push((waiter, Body::Locked { token: self.last_token, owner_died, notified }));
        }
    }
}

#[derive(Default)]
pub(super) struct Semaphore {
    permits: u64,
    /// How many permits there may be.
    bound: Option<u64>,
    waiters: VecDeque<(Waiter, u64)>,
    held: HashMap<u64, u64>,
}

impl Semaphore {
    fn apply(&mut self, operation: Operation, who: Waiter) -> Done {
        match operation {
            Operation::Acquire(count, timeout) => {
                self.waiters.push_back((who, count));
                Done::Waits(timeout)
            }
            Operation::Release(count) => {
                let permits = self.permits.saturating_add(count);
                if self.bound.is_some_and(|bound| permits > bound) {
                    return Done::Answer(Body::Failed(CallError::TooManyPermits));
                }
                self.permits = permits;
                // Who releases need not be who acquired.
                if let Some(held) = self.held.get_mut(&who.client) {
                    *held = held.saturating_sub(count);
                    if *held == 0 {
                        self.held.remove(&who.client);
                    }
                }
                Done::Answer(Body::Done)
            }
            Operation::Len => Done::Answer(Body::Number(self.permits)),
            _ => Done::Mismatch,
        }
    }

    fn settle(&mut self, answers: &mut Answers) {
        while self.waiters.front().is_some_and(|(_, count)| *count <= self.permits) {
            if let Some((waiter, count)) = self.waiters.pop_front() {
                self.permits -= count;
                let held = self.held.entry(waiter.client).or_default();
                *held = held.saturating_add(count);
                answers.push((waiter, Body::Flag(true)));
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Event {
    is_set: bool,
    waiters: VecDeque<Waiter>,
}

impl Event {
    fn apply(&mut self, operation: Operation, who: Waiter) -> Done {
        match operation {
            Operation::Wait(timeout) => {
                self.waiters.push_back(who);
                Done::Waits(timeout)
            }
            Operation::SetFlag(is_set) => {
                self.is_set = is_set;
                Done::Answer(Body::Done)
            }
            Operation::IsSet => Done::Answer(Body::Flag(self.is_set)),
            _ => Done::Mismatch,
        }
    }

    fn settle(&mut self, answers: &mut Answers) {
        if self.is_set {
            answers.extend(self.waiters.drain(..).map(|waiter| (waiter, Body::Flag(true))));
        }
    }
}

#[derive(Default)]
pub(super) struct Barrier {
    parties: u64,
    broken: bool,
    waiters: VecDeque<Waiter>,
}

impl Barrier {
    fn apply(&mut self, operation: Operation, who: Waiter, answers: &mut Answers) -> Done {
        match operation {
            Operation::Wait(timeout) => {
                self.waiters.push_back(who);
                Done::Waits(timeout)
            }
            Operation::Abort => {
                self.broken = true;
                Done::Answer(Body::Done)
            }
            Operation::Reset => {
                self.broken = true;
                self.settle(answers);
                self.broken = false;
                Done::Answer(Body::Done)
            }
            Operation::IsSet => Done::Answer(Body::Flag(self.broken)),
            Operation::Len => Done::Answer(Body::Number(self.waiters.len() as u64)),
            _ => Done::Mismatch,
        }
    }

    fn settle(&mut self, answers: &mut Answers) {
        if self.broken {
            let broken = |waiter| (waiter, Body::Failed(CallError::BrokenBarrier));
            answers.extend(self.waiters.drain(..).map(broken));
        } else if self.waiters.len() as u64 >= self.parties {
            answers.extend(self.waiters.drain(..).zip(0..).map(|(waiter, place)| (waiter, Body::Number(place))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_holder_releases_a_lock() {
        let mut lock = Waiting::new(Initial::Lock);
        let mut answers = Answers::new();
        let [owner, stranger] = [1, 2].map(|client| Waiter { client, call: 1 });
        lock.apply(Operation::Acquire(1, None), owner, &mut answers);
        let Some((_, Body::Locked { token, .. })) = answers.pop() else { panic!("it was free") };
        lock.apply(Operation::Acquire(1, None), stranger, &mut answers);
        for token in [token, 0, token + 1, u64::MAX] {
            lock.apply(Operation::Release(token), Waiter { call: 2, ..stranger }, &mut answers);
            let slept = lock.apply(Operation::Sleep(token, None), Waiter { call: 3, ..stranger }, &mut answers);
            assert!(matches!(slept, Done::Answer(Body::Failed(CallError::NotHeld))));
            assert!(answers.is_empty(), "nobody else got it");
        }
        lock.apply(Operation::Release(token), Waiter { call: 2, ..owner }, &mut answers);
        assert!(matches!(answers[..], [(who, Body::Locked { owner_died: false, .. })] if who == stranger));
    }
}
