//! Objects that calls wait for.
//!
//! A call that waits is an entry in its object and holds no thread. Whatever changes an object ends
//! with `settle`, which answers the calls that need not wait any longer, in the order in which they
//! came. Even a call that need not wait at all is first an entry.
//!
//! | a client dies | |
//! |---|---|
//! | waiting | its calls go; a barrier is broken |
//! | with a lock | the next owner learns it |
//! | with permits | they return |
//! | with a value of a queue that it has not acknowledged | the value returns to the front |
//!
//! A client acknowledges a value when it has it, so a value is lost only with a client that had it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::content::{Step, mismatch};
use crate::error::CallError;
use crate::value::Value;
use crate::wire::{Body, Change, Held, Initial, Operation};

/// A call that waits, or that would.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) client: u64,
    pub(super) call: u64,
}

/// Answers for calls that waited.
pub(super) type Answers = Vec<(Waiter, Body)>;

pub(super) struct Waiting {
    kind: Kind,
    /// If the first one has to wait, so have all others.
    waiters: VecDeque<(Waiter, Want)>,
}

/// What a call waits for.
enum Want {
    Put(Value),
    Take,
    Acquire(u64),
    // It waited for a condition, and takes its lock again. It cannot give up.
    Return { notified: bool },
    Wait,
}

enum Kind {
    Queue(Queue),
    Semaphore(Permits),
    Lock(Permits),
    /// Whether it is set.
    Event(bool),
    Barrier(Barrier),
}

#[derive(Default)]
struct Queue {
    /// How many values there may be.
    capacity: Option<u64>,
    values: VecDeque<Value>,
    /// What was sent and not acknowledged, by client and call.
    given: HashMap<u64, BTreeMap<u64, Value>>,
}

/// A semaphore, or a lock, which has one permit. Calls that wait for the condition of the lock are
/// kept apart.
#[derive(Default)]
struct Permits {
    free: u64,
    /// How many there may be.
    bound: Option<u64>,
    /// How many each client has.
    held: HashMap<u64, u64>,
    owner_died: bool,
    last_token: u64,
    sleepers: VecDeque<Waiter>,
}

#[derive(Default)]
struct Barrier {
    parties: u64,
    broken: bool,
    /// The place of the next one that leaves; 0 if all parties have to come first.
    next: u64,
}

impl Waiting {
    pub(super) fn new(initial: Initial) -> Self {
        let kind = match initial {
            Initial::Queue(capacity) => Kind::Queue(Queue { capacity, ..Queue::default() }),
            Initial::Semaphore { permits: free, bound } => {
                Kind::Semaphore(Permits { free, bound, ..Permits::default() })
            }
            Initial::Event(is_set) => Kind::Event(is_set),
            Initial::Barrier(parties) => Kind::Barrier(Barrier { parties, ..Barrier::default() }),
            Initial::Lock | Initial::Map | Initial::List | Initial::Cell(_) => {
                Kind::Lock(Permits { free: 1, bound: Some(1), ..Permits::default() })
            }
        };
        Self { kind, waiters: VecDeque::new() }
    }

    pub(super) fn apply(
        &mut self,
        operation: Operation,
        who: Waiter,
        answers: &mut Answers,
    ) -> Result<Step, CallError> {
        let step = self.step(operation, who, answers);
        self.settle(answers);
        step
    }

    fn step(&mut self, operation: Operation, who: Waiter, answers: &mut Answers) -> Result<Step, CallError> {
        Ok(match (&mut self.kind, operation) {
            (Kind::Queue(_), Operation::Put(value)) => self.wait(who, Want::Put(value)),
            (Kind::Queue(_), Operation::Take) => self.wait(who, Want::Take),
            (Kind::Queue(queue), Operation::Acknowledge { call, arrived }) => {
                queue.acknowledge(Waiter { call, ..who }, arrived);
                Body::Done.into()
            }
            (Kind::Queue(queue), Operation::Change(Change::Clear)) => {
                queue.values.clear();
                Body::Value(None).into()
            }
            (Kind::Semaphore(_) | Kind::Lock(_), Operation::Acquire(count)) => self.wait(who, Want::Acquire(count)),
            (Kind::Semaphore(permits), Operation::Release(count)) => {
                permits.release(who.client, count)?;
                Body::Done.into()
            }
            (Kind::Lock(lock), Operation::Unlock(token)) => {
                lock.check(who, token)?;
                lock.release(who.client, 1)?;
                Body::Done.into()
            }
            (Kind::Lock(lock), Operation::Sleep(token)) => {
                lock.check(who, token)?;
                lock.release(who.client, 1)?;
                lock.sleepers.push_back(who);
                Step::Wait
            }
            (Kind::Lock(lock), Operation::Notify(token, count)) => {
                lock.check(who, token)?;
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(lock.sleepers.len());
                let woken = lock.sleepers.drain(..count);
                self.waiters.extend(woken.map(|sleeper| (sleeper, Want::Return { notified: true })));
                Body::Done.into()
            }
            (Kind::Event(_) | Kind::Barrier(_), Operation::Wait) => self.wait(who, Want::Wait),
            (Kind::Event(is_set), Operation::SetFlag(set)) => {
                *is_set = set;
                Body::Done.into()
            }
            (Kind::Event(is_set), Operation::IsSet) => Body::Flag(*is_set).into(),
            (Kind::Barrier(barrier), Operation::SetFlag(broken)) => {
                barrier.broken = broken;
                let fails = |(who, _)| (who, Body::Failed(CallError::BrokenBarrier));
                answers.extend(self.waiters.drain(..).map(fails));
                Body::Done.into()
            }
            (Kind::Barrier(barrier), Operation::IsSet) => Body::Flag(barrier.broken).into(),
            _ => return Err(mismatch()),
        })
    }

    fn wait(&mut self, who: Waiter, want: Want) -> Step {
        match (self.waiters.front(), &want) {
            // A full queue has room in a moment, or an empty one a value.
            (Some((_, Want::Put(_))), Want::Take) | (Some((_, Want::Take)), Want::Put(_)) => {
                self.waiters.push_front((who, want));
            }
            _ => self.waiters.push_back((who, want)),
        }
        Step::Wait
    }

    fn settle(&mut self, answers: &mut Answers) {
        let mut waiting = self.waiters.len() as u64;
        while let Some((who, want)) = self.waiters.front() {
            let Some(body) = self.kind.admit(*who, want, waiting) else { return };
            answers.push((*who, body));
            self.waiters.pop_front();
            waiting -= 1;
        }
    }

    /// The time of a call that waits is over.
    pub(super) fn give_up(&mut self, who: Waiter, answers: &mut Answers) {
        let is_it = |(waiter, want): &(Waiter, Want)| *waiter == who && !matches!(want, Want::Return { .. });
        let gone = self.waiters.iter().position(is_it).and_then(|place| self.waiters.remove(place));
        match (&mut self.kind, gone) {
            (Kind::Lock(lock), None) if lock.sleepers.contains(&who) => {
                lock.sleepers.retain(|sleeper| *sleeper != who);
                self.waiters.push_back((who, Want::Return { notified: false }));
            }
            (_, None) => {}
            (Kind::Barrier(barrier), Some(_)) => {
                barrier.broken = true;
                answers.push((who, Body::Failed(CallError::BrokenBarrier)));
            }
            (_, Some((_, Want::Take))) => answers.push((who, Body::Value(None))),
            (_, Some(_)) => answers.push((who, Body::Flag(false))),
        }
        self.settle(answers);
    }

    /// A client has ended.
    pub(super) fn forget(&mut self, client: u64, answers: &mut Answers) {
        let before = self.waiters.len();
        self.waiters.retain(|(waiter, _)| waiter.client != client);
        match &mut self.kind {
            Kind::Queue(queue) => {
                for (_, value) in queue.given.remove(&client).into_iter().flatten().rev() {
                    queue.values.push_front(value);
                }
            }
            Kind::Semaphore(permits) | Kind::Lock(permits) => {
                permits.sleepers.retain(|sleeper| sleeper.client != client);
                if let Some(held) = permits.held.remove(&client) {
                    permits.free = permits.free.saturating_add(held);
                    permits.owner_died = true;
                }
            }
            Kind::Event(_) => {}
            Kind::Barrier(barrier) => barrier.broken |= self.waiters.len() < before,
        }
        self.settle(answers);
    }

    /// Returns how many values there are, permits that are free, or calls that wait at a barrier.
    pub(super) fn len(&self) -> u64 {
        match &self.kind {
            Kind::Queue(queue) => queue.values.len() as u64,
            Kind::Semaphore(permits) | Kind::Lock(permits) => permits.free,
            Kind::Event(_) => 0,
            Kind::Barrier(_) => self.waiters.len() as u64,
        }
    }
}

impl Kind {
    /// Answers the first of the calls that wait, if it need not wait any longer.
    fn admit(&mut self, who: Waiter, want: &Want, waiting: u64) -> Option<Body> {
        match (self, want) {
            (Self::Queue(queue), Want::Put(value)) => queue.has_room().then(|| {
                queue.values.push_back(value.clone());
                Body::Flag(true)
            }),
            (Self::Queue(queue), _) => {
                let value = queue.values.pop_front()?;
                queue.given.entry(who.client).or_default().insert(who.call, value.clone());
                Some(Body::Value(Some(value)))
            }
            (Self::Semaphore(permits) | Self::Lock(permits), Want::Acquire(count)) => permits.admit(who, *count, true),
            (Self::Semaphore(lock) | Self::Lock(lock), want) => {
                lock.admit(who, 1, matches!(want, Want::Return { notified: true }))
            }
            (Self::Event(true), _) => Some(Body::Flag(true)),
            (Self::Barrier(barrier), _) => barrier.admit(waiting),
            (Self::Event(false), _) => None,
        }
    }
}

impl Queue {
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| (self.values.len() as u64) < capacity)
    }

    /// A value has arrived, or it has not and returns to the front.
    fn acknowledge(&mut self, of: Waiter, arrived: bool) {
        let Some(given) = self.given.get_mut(&of.client) else { return };
        let value = given.remove(&of.call);
        if given.is_empty() {
            self.given.remove(&of.client);
        }
        if let Some(value) = value.filter(|_| !arrived) {
            self.values.push_front(value);
        }
    }
}

impl Permits {
    fn admit(&mut self, who: Waiter, count: u64, notified: bool) -> Option<Body> {
        self.free = self.free.checked_sub(count)?;
        if count > 0 {
            let held = self.held.entry(who.client).or_default();
            *held = held.saturating_add(count);
            self.last_token += 1;
        }
        Some(Body::Locked(Held { token: self.last_token, owner_died: std::mem::take(&mut self.owner_died), notified }))
    }

    /// Tells whether the client of this call has the lock, with this token. Another one cannot
    /// release it, whatever it sends.
    fn check(&self, who: Waiter, token: u64) -> Result<(), CallError> {
        let holds = self.last_token == token && self.held.contains_key(&who.client);
        if holds { Ok(()) } else { Err(CallError::NotHeld) }
    }

    fn release(&mut self, client: u64, count: u64) -> Result<(), CallError> {
        let free = self.free.saturating_add(count);
        if self.bound.is_some_and(|bound| free > bound) {
            return Err(CallError::TooManyPermits);
        }
        self.free = free;
        // Who releases need not be who acquired.
        if let Some(held) = self.held.get_mut(&client) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.held.remove(&client);
            }
        }
        Ok(())
    }
}

impl Barrier {
    fn admit(&mut self, waiting: u64) -> Option<Body> {
        if self.broken {
            return Some(Body::Failed(CallError::BrokenBarrier));
        }
        if self.next == 0 && waiting < self.parties {
            return None;
        }
        let place = self.next;
        self.next = (place + 1) % self.parties.max(1);
        Some(Body::Number(place))
    }
}

#[cfg(test)]
mod tests;
