//! A whole queue, by operations of chance, against a `VecDeque`.

use std::collections::VecDeque;

use mp_core::raw::Message;
use mp_queue::{Consumer, GetError, GetManyError, Producer, PutError, PutErrorReason, PutManyError, Queue};
use mp_testing::faults::count;
use mp_testing::{limits::allow_descriptors, scenario};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::messages::Bundle;

/// How a value is: how many descriptors it holds, and how many bytes.
type Kind = (u32, usize);

#[derive(Debug, Clone)]
enum Step {
    Put(Kind),
    PutMany(Vec<Kind>),
    Get,
    GetMany(usize),
    Drain,
    Iterate(usize),
    Close,
    Clone,
    Producer,
    Consumer,
    /// Through a message, which makes it a handle of its own.
    Travel,
    Drop,
}

/// The memory of a queue that is not bounded by the number of values.
const BYTES: usize = 8192;

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let kind = || {
        let length = prop_oneof![6 => 0_usize..40, 2 => 100_usize..BYTES / 2, 1 => BYTES / 2 - 100..3 * BYTES];
        (prop_oneof![5 => Just(0_u32), 1 => 1_u32..3], length)
    };
    let step = prop_oneof![
        20 => kind().prop_map(Step::Put),
        6 => prop::collection::vec(kind(), 0..6).prop_map(Step::PutMany),
        14 => Just(Step::Get),
        4 => (0_usize..8).prop_map(Step::GetMany),
        2 => Just(Step::Drain),
        2 => (0_usize..4).prop_map(Step::Iterate),
        1 => Just(Step::Close),
        3 => Just(Step::Clone),
        2 => Just(Step::Producer),
        2 => Just(Step::Consumer),
        2 => Just(Step::Travel),
        6 => Just(Step::Drop),
    ];
    // The first says of which handle.
    prop::collection::vec((0_usize..100, step), 0..80)
}

enum Handle {
    Both(Queue<Bundle>),
    To(Producer<Bundle>),
    From(Consumer<Bundle>),
}

impl Handle {
    fn is_producer(&self) -> bool {
        !matches!(self, Self::From(_))
    }

    fn is_consumer(&self) -> bool {
        !matches!(self, Self::To(_))
    }

    fn travelled(&self) -> Self {
        match self {
            Self::Both(queue) => Self::Both(Message::encode(queue).unwrap().decode().unwrap()),
            Self::To(queue) => Self::To(Message::encode(queue).unwrap().decode().unwrap()),
            Self::From(queue) => Self::From(Message::encode(queue).unwrap().decode().unwrap()),
        }
    }
}

/// Calls the same method of whichever handle it is.
macro_rules! by {
    ($handle:expr, $($variant:ident)|+, $queue:ident => $call:expr) => {
        match $handle {
            $(Handle::$variant($queue) => $call,)+
            #[allow(unreachable_patterns)]
            _ => unreachable!("this handle cannot do that"),
        }
    };
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Closed,
    Disconnected,
    Full,
}

impl Refusal {
    fn of(reason: &PutErrorReason) -> Self {
        match reason {
            PutErrorReason::Closed => Self::Closed,
            PutErrorReason::Disconnected => Self::Disconnected,
            PutErrorReason::Full => Self::Full,
            other => panic!("{other:?}"),
        }
    }
}

/// Whether a value has room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Yes,
    No,
    /// It depends on where in the ring it comes to be.
    Maybe,
}

struct World {
    handles: Vec<Handle>,
    values: VecDeque<(u32, Kind)>,
    next: u32,
    closed: bool,
    was_sent: bool,
    /// The most values, if the queue is bounded.
    bound: Option<usize>,
}

impl World {
    fn new(bound: Option<usize>) -> Self {
        let queue = bound.map_or_else(|| Queue::with_bytes(BYTES), Queue::bounded).unwrap();
        let handles = vec![Handle::Both(queue)];
        Self { handles, values: VecDeque::new(), next: 0, closed: false, was_sent: false, bound }
    }

    /// How much of the ring a value takes.
    fn taken(&self, (ends, length): Kind) -> usize {
        // The number, the lengths of the bytes and of the ends, and the record's own word.
        let record = (8 + 4 + 8 + length + 8).div_ceil(8) * 8;
        let is_beside = ends > 0 || record > BYTES / 2;
        if is_beside { 16 } else { record }
    }

    fn room(&self, kind: Kind) -> Room {
        if let Some(bound) = self.bound {
            return if self.values.len() < bound { Room::Yes } else { Room::No };
        }
        let used: usize = self.values.iter().map(|(_, kind)| self.taken(*kind)).sum();
        let needed = self.taken(kind);
        // Where the ring ended, less than one record was skipped.
        let longest = self.values.iter().map(|(_, kind)| self.taken(*kind)).max().unwrap_or(0).max(needed);
        match BYTES {
            _ if used + needed > BYTES => Room::No,
            _ if used + needed + longest <= BYTES => Room::Yes,
            _ => Room::Maybe,
        }
    }

    /// Whether nobody but the handle itself is of a side.
    fn is_alone(&self, handle: &Handle, is_of_side: fn(&Handle) -> bool) -> bool {
        let others = self.handles.iter().filter(|handle| is_of_side(handle)).count() - is_of_side(handle) as usize;
        others == 0 && (!is_of_side(handle) || self.was_sent)
    }

    fn bundle(&mut self, (ends, length): Kind) -> Bundle {
        let number = self.next;
        self.next += 1;
        Bundle::new(number, ends, length)
    }

    fn put(&mut self, which: usize, kind: Kind) {
        let number = self.next;
        let bundle = self.bundle(kind);
        let handle = &self.handles[which];
        let result = by!(handle, Both | To, queue => queue.try_put(bundle));
        let has_no_consumer = !self.handles.iter().any(Handle::is_consumer);
        let room = self.room(kind);
        match result {
            Ok(()) => {
                assert!(!self.closed && !has_no_consumer && room != Room::No);
                self.values.push_back((number, kind));
            }
            Err(PutError { value, reason }) => {
                value.check(number, kind.0, kind.1);
                let expected = match () {
                    () if self.closed => Refusal::Closed,
                    () if has_no_consumer || self.is_alone(handle, Handle::is_consumer) => Refusal::Disconnected,
                    () => Refusal::Full,
                };
                assert_eq!(Refusal::of(&reason), expected);
                assert!(self.closed || has_no_consumer || room != Room::Yes);
            }
        }
    }

    fn put_many(&mut self, which: usize, kinds: Vec<Kind>) {
        // It would wait for room.
        let mut expected = self.values.clone();
        let numbers: Vec<_> = (self.next..).zip(kinds.iter().copied()).collect();
        let fits = numbers.iter().all(|value| {
            let fits = self.room(value.1) == Room::Yes;
            self.values.push_back(*value);
            fits
        });
        std::mem::swap(&mut self.values, &mut expected);
        let has_no_consumer = !self.handles.iter().any(Handle::is_consumer);
        if !fits && !self.closed && !has_no_consumer {
            return;
        }
        let bundles: Vec<_> = kinds.iter().map(|kind| self.bundle(*kind)).collect();
        match by!(&self.handles[which], Both | To, queue => queue.put_many(bundles)) {
            Ok(put) => {
                assert_eq!(put, kinds.len());
                assert!(kinds.is_empty() || !(self.closed || has_no_consumer));
                self.values = expected;
            }
            Err(PutManyError { put, values, reason }) => {
                assert_eq!((put, values.len()), (0, kinds.len()));
                let expected = if self.closed { Refusal::Closed } else { Refusal::Disconnected };
                assert_eq!(Refusal::of(&reason), expected);
                assert!(self.closed || has_no_consumer);
                values.iter().zip(numbers).for_each(|(value, (number, kind))| value.check(number, kind.0, kind.1));
            }
        }
    }

    #[track_caller]
    fn is_front(&mut self, value: &Bundle) {
        let (number, kind) = self.values.pop_front().expect("the queue is empty");
        value.check(number, kind.0, kind.1);
    }

    #[track_caller]
    fn is_end(&self, which: usize, reason: &GetError) {
        assert!(self.values.is_empty());
        match reason {
            GetError::Closed => assert!(self.closed),
            GetError::Disconnected => {
                assert!(!self.closed && self.is_alone(&self.handles[which], Handle::is_producer));
            }
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, which: usize) {
        match by!(&self.handles[which], Both | From, queue => queue.try_get()) {
            Ok(Some(value)) => self.is_front(&value),
            Ok(None) => {
                let is_over = self.closed || self.is_alone(&self.handles[which], Handle::is_producer);
                assert!(self.values.is_empty() && !is_over);
            }
            Err(reason) => self.is_end(which, &reason),
        }
    }

    fn got_many(&mut self, which: usize, result: Result<Vec<Bundle>, GetManyError<Bundle>>) -> usize {
        match result {
            Ok(values) => {
                values.iter().for_each(|value| self.is_front(value));
                values.len()
            }
            Err(GetManyError { values, failed, reason }) => {
                assert!(values.is_empty() && failed == 0);
                self.is_end(which, &reason);
                0
            }
        }
    }

    fn step(&mut self, which: usize, step: Step) {
        if self.handles.is_empty() {
            return;
        }
        let which = which % self.handles.len();
        let (puts, gets) = (self.handles[which].is_producer(), self.handles[which].is_consumer());
        let handle = &self.handles[which];
        let is_over = self.closed || self.is_alone(handle, Handle::is_producer);
        match step {
            Step::Put(kind) if puts => self.put(which, kind),
            Step::PutMany(kinds) if puts => self.put_many(which, kinds),
            Step::Get if gets => self.get(which),
            // It would wait.
            Step::GetMany(most) if gets && (most == 0 || is_over || !self.values.is_empty()) => {
                let result = by!(handle, Both | From, queue => queue.get_many(most));
                let before = self.values.len();
                let got = self.got_many(which, result);
                assert!(got <= most && (got > 0 || most.min(before) == 0));
            }
            Step::Drain if gets => {
                let result = by!(handle, Both | From, queue => queue.drain());
                self.got_many(which, result);
                assert!(self.values.is_empty());
            }
            Step::Iterate(count) if gets => {
                let count = if is_over { count } else { count.min(self.values.len()) };
                let got: Vec<_> = by!(handle, Both | From, queue => queue.iter().take(count).collect());
                assert_eq!(got.len(), count.min(self.values.len()));
                got.iter().for_each(|value| self.is_front(value.as_ref().unwrap()));
            }
            Step::Close => {
                by!(handle, Both | To | From, queue => queue.close());
                self.closed = true;
            }
            Step::Clone => {
                let copy = match handle {
                    Handle::Both(queue) => Handle::Both(queue.clone()),
                    Handle::To(queue) => Handle::To(queue.clone()),
                    Handle::From(queue) => Handle::From(queue.clone()),
                };
                self.handles.push(copy);
            }
            Step::Producer => {
                if let Handle::Both(queue) = handle {
                    let half = Handle::To(queue.producer());
                    self.handles.push(half);
                }
            }
            Step::Consumer => {
                if let Handle::Both(queue) = handle {
                    let half = Handle::From(queue.consumer());
                    self.handles.push(half);
                }
            }
            Step::Travel => {
                self.was_sent = true;
                self.handles[which] = handle.travelled();
            }
            Step::Drop => drop(self.handles.swap_remove(which)),
            _ => {}
        }
        for handle in &self.handles {
            by!(handle, Both | To | From, queue => {
                assert_eq!((queue.len(), queue.is_empty()), (self.values.len(), self.values.is_empty()));
                assert_eq!(queue.is_closed(), self.closed);
                assert!(queue.len() <= queue.capacity());
                if let Some(bound) = self.bound {
                    assert_eq!((queue.capacity(), queue.is_full()), (bound, queue.len() == bound));
                }
            });
        }
    }
}

scenario!(a_queue_does_what_a_deque_does, {
    assert!(allow_descriptors(4096));
    let config = ProptestConfig { cases: count(100) as u32, failure_persistence: None, ..ProptestConfig::default() };
    let bound = prop_oneof![Just(None), (1_usize..12).prop_map(Some)];
    let run = TestRunner::new(config).run(&(bound, steps()), |(bound, steps)| {
        let mut world = World::new(bound);
        steps.into_iter().for_each(|(which, step)| world.step(which, step));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
});
