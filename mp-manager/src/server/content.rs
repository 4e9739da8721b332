//! What objects hold, and what each operation does to it.

use std::sync::{Arc, RwLock};

use super::data::{Data, Map, Values};
use super::job::{self, Work};
use super::waiting::{Answers, Waiter, Waiting};
use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::{Entry, Value};
use crate::wire::{Body, Initial, Operation, Place};

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
    /// A function or a method has to run first.
    Run(Work),
    /// The call waits, unless the answers have its own already.
    Wait,
}

impl From<Body> for Step {
    fn from(body: Body) -> Self {
        Self::Answer(body)
    }
}

/// An object of this kind has no such operation.
pub(super) fn mismatch() -> CallError {
    CallError::WrongType { expected: "an object with this method".to_owned(), found: "another one".to_owned() }
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
    pub(super) fn new(class: &'static Class, value: Own) -> Self {
        Self { class, value: Arc::new(RwLock::new(value)), poisoned: false }
    }

    fn apply(&mut self, operation: Operation) -> Result<Step, CallError> {
        match operation {
            Operation::Call(..) if self.poisoned => Err(CallError::Poisoned),
            Operation::Call(method, arguments) => {
                let (method, value) = (self.class.method(method)?, Arc::clone(&self.value));
                Ok(Step::Run(Box::new(move || job::call(&value, method, arguments))))
            }
            Operation::SetFlag(poisoned) => {
                self.poisoned = poisoned;
                Ok(Body::Done.into())
            }
            _ => Err(mismatch()),
        }
    }
}

/// How many values, and how many bytes of them, a piece has at most, but at least one value.
const PIECE: (usize, u64) = (1024, 64 << 10);

/// Returns how many of the values are in one piece.
pub(super) fn piece(of: &[Entry]) -> usize {
    let mut left = PIECE.1;
    let fits = |(key, value): &&Entry| {
        let had = left > 0;
        left = left.saturating_sub(key.length() + value.length());
        had
    };
    of.iter().take(PIECE.0).take_while(fits).count()
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
                Ok((_, Method::Shared(_))) => Turn::Shared,
                _ => Turn::Exclusive,
            },
            _ => Turn::None,
        }
    }

    pub(super) fn apply(
        &mut self,
        operation: Operation,
        who: Waiter,
        answers: &mut Answers,
    ) -> Result<Step, CallError> {
        match (self, operation) {
            (content, Operation::Len) => Ok(Body::Number(content.len()).into()),
            (Self::Data(data), operation) => {
                let step = data.apply(operation, who);
                data.settle(answers);
                step
            }
            (Self::Pieces(entries), Operation::Piece(from)) => {
                let rest = entries.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
                Ok(Body::Entries(rest[..piece(rest)].to_vec().into()).into())
            }
            (Self::Pieces(_), _) => Err(mismatch()),
            (Self::Waiting(waiting), operation) => waiting.apply(operation, who, answers),
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
