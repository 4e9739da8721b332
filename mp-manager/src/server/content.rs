//! What objects hold, and what each operation does to it.

use std::sync::{Arc, RwLock};

use super::data::{Data, Map, Values};
use super::waiting::{Answers, Done, Waiter, Waiting};
use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::{Entry, Value};
use crate::wire::{Body, Initial, Operation, Place, Timeout};

pub(super) enum Content {
    Data(Data),
    /// What the values of another object were, to be read in pieces.
    Pieces(Vec<Entry>),
    Waiting(Waiting),
    Own(Object),
}

/// A value of a type of the user's.
pub(super) struct Object {
    pub(super) class: &'static Class,
    /// Locked for the time of a call. Nobody waits for it: the calls take turns before that.
    pub(super) value: Arc<RwLock<Own>>,
    /// A method that takes `&mut self` has panicked.
    pub(super) poisoned: bool,
}

/// What an operation comes to.
pub(super) enum Step {
    Answer(Body),
    /// A function has to run first.
    Run(Modification),
    /// A method has to run.
    Call {
        value: Arc<RwLock<Own>>,
        method: Method,
        arguments: Value,
    },
    /// The call waits, unless it was answered at once.
    Wait(Timeout),
    /// The client expects no answer.
    Silent,
    /// The answer is a new object, to read these in pieces.
    Make(Vec<Entry>),
    /// An object of this kind has no such operation.
    Mismatch,
}

/// How much of an object a call needs while it runs on a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is over at once.
    None,
    /// It runs beside others of its kind.
    Shared,
    /// It runs alone.
    Exclusive,
}

impl Object {
    fn apply(&mut self, operation: Operation) -> Step {
        match operation {
            Operation::Call(..) if self.poisoned => Step::Answer(Body::Failed(CallError::Poisoned)),
            Operation::Call(method, arguments) => match self.class.method(method) {
                Ok(method) => Step::Call { value: Arc::clone(&self.value), method, arguments },
                Err(error) => Step::Answer(Body::Failed(error)),
            },
            Operation::ClearPoison => {
                self.poisoned = false;
                Step::Answer(Body::Done)
            }
            _ => Step::Mismatch,
        }
    }
}

/// A change of a value by a function.
pub(super) struct Modification {
    pub(super) place: Place,
    pub(super) function: String,
    pub(super) old: Option<Value>,
    pub(super) argument: Value,
}

/// How many values, and how many bytes of them, a piece has at most, but at least one value.
const PIECE: (usize, u64) = (1024, 64 << 10);

fn piece(of: &[Entry], from: u64) -> Vec<Entry> {
    let rest = of.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    let mut left = PIECE.1;
    let fits = |(_, value): &&Entry| {
        let had = left > 0;
        left = left.saturating_sub(value.length());
        had
    };
    rest.iter().take(PIECE.0).take_while(fits).cloned().collect()
}

impl Content {
    pub(super) fn new(initial: Initial) -> Self {
        match initial {
            Initial::Map => Values::Map(Map::default()).into(),
            Initial::List => Values::List(Vec::new()).into(),
            Initial::Cell(value) => Values::Cell(value).into(),
            other => Self::Waiting(Waiting::new(other)),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len(),
            Self::Pieces(entries) => entries.len() as u64,
            Self::Waiting(waiting) => waiting.len(),
            Self::Own(_) => 0,
        }
    }

    /// Tells how much of the object a call needs.
    pub(super) fn turn(&self, operation: &Operation) -> Turn {
        match (self, operation) {
            (_, Operation::Modify { .. }) => Turn::Exclusive,
            (Self::Own(object), Operation::Call(method, _)) => match object.class.method(*method) {
                Ok(Method::Shared(_)) => Turn::Shared,
                _ => Turn::Exclusive,
            },
            _ => Turn::None,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation, who: Waiter, answers: &mut Answers) -> Step {
        match (self, operation) {
            (Self::Data(data), operation) => {
                let step = data.apply(operation, who);
                data.settle(answers);
                step
            }
            (Self::Pieces(entries), Operation::Piece(from)) => Step::Answer(Body::Entries(piece(entries, from))),
            (Self::Pieces(_), _) => Step::Mismatch,
            (Self::Waiting(waiting), operation) => match waiting.apply(operation, who, answers) {
                Done::Answer(body) => Step::Answer(body),
                Done::Waits(timeout) => Step::Wait(timeout),
                Done::Silent => Step::Silent,
                Done::Mismatch => Step::Mismatch,
            },
            (Self::Own(object), operation) => object.apply(operation),
        }
    }

    /// Puts the result of a function at the place of the value that it changed.
    pub(super) fn put(&mut self, place: Place, value: Option<Value>, answers: &mut Answers) {
        if let Self::Data(data) = self {
            data.put(place, value);
            data.settle(answers);
        }
    }

    /// The time of a call that waits is over.
    pub(super) fn give_up(&mut self, who: Waiter, answers: &mut Answers) {
        match self {
            Self::Data(data) => data.watchers.give_up(who, answers),
            Self::Waiting(waiting) => waiting.give_up(who, answers),
            Self::Pieces(_) | Self::Own(_) => {}
        }
    }

    /// A client has ended.
    pub(super) fn forget(&mut self, client: u64, answers: &mut Answers) {
        match self {
            Self::Data(data) => data.watchers.end(client, None),
            Self::Waiting(waiting) => waiting.forget(client, answers),
            Self::Pieces(_) | Self::Own(_) => {}
        }
    }
}
