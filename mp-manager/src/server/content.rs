//! What objects hold, and what each operation does to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use super::waiting::{Answers, Done, Waiter, Waiting};
use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::{Key, Value};
use crate::wire::{Body, Initial, Operation, Place, Timeout};

pub(super) enum Content {
    Map(Map),
    List(Vec<Value>),
    Cell(Value),
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

/// Entries, and the order in which their keys were inserted.
#[derive(Default)]
pub(super) struct Map {
    entries: HashMap<Key, (u64, Value)>,
    order: BTreeMap<u64, Key>,
    last: u64,
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

impl Content {
    pub(super) fn new(initial: Initial) -> Self {
        match initial {
            Initial::Map => Self::Map(Map::default()),
            Initial::List => Self::List(Vec::new()),
            Initial::Cell(value) => Self::Cell(value),
            other => Self::Waiting(Waiting::new(other)),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Map(map) => map.entries.len() as u64,
            Self::List(values) => values.len() as u64,
            Self::Cell(_) => 1,
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
        let body = match (self, operation) {
            (Self::Waiting(waiting), operation) => match waiting.apply(operation, who, answers) {
                Done::Answer(body) => body,
                Done::Waits(timeout) => return Step::Wait(timeout),
                Done::Silent => return Step::Silent,
                Done::Mismatch => return Step::Mismatch,
            },
            (Self::Own(object), operation) => return object.apply(operation),
            (content, Operation::Modify { place, function, argument }) => match content.look(&place) {
                Ok(old) => return Step::Run(Modification { place, function, old, argument }),
                Err(step) => return step,
            },
            (content, Operation::CompareExchange { place, old, new }) => match content.look(&place) {
                Ok(found) => content.exchange(&place, old, found, new),
                Err(step) => return step,
            },
            (content, Operation::Get(place)) => match content.look(&place) {
                Ok(value) => Body::Value(value),
                Err(Step::Answer(Body::Failed(CallError::OutOfBounds { .. }))) => Body::Value(None),
                Err(step) => return step,
            },
            (content, Operation::Set(place, value)) => match content.look(&place) {
                Ok(old) => {
                    content.put(place, Some(value));
                    Body::Value(old)
                }
                Err(step) => return step,
            },
            (content, Operation::Len) => Body::Number(content.len()),
            (Self::Map(map), operation) => match map.apply(operation) {
                Some(body) => body,
                None => return Step::Mismatch,
            },
            (Self::List(values), operation) => match apply_to_list(values, operation) {
                Some(body) => body,
                None => return Step::Mismatch,
            },
            (Self::Cell(_), _) => return Step::Mismatch,
        };
        Step::Answer(body)
    }

    /// Returns the value at a place.
    fn look(&self, place: &Place) -> Result<Option<Value>, Step> {
        match (self, place) {
            (Self::Map(map), Place::Key(key)) => Ok(map.entries.get(key).map(|(_, value)| value.clone())),
            (Self::List(values), Place::Index(index)) => match position(*index, values.len()) {
                Ok(index) => Ok(Some(values[index].clone())),
                Err(error) => Err(Step::Answer(error)),
            },
            (Self::Cell(value), Place::Whole) => Ok(Some(value.clone())),
            _ => Err(Step::Mismatch),
        }
    }

    /// Puts a value at a place that [`look`](Self::look) has found. `None` removes it.
    pub(super) fn put(&mut self, place: Place, value: Option<Value>) {
        match (self, place, value) {
            (Self::Map(map), Place::Key(key), Some(value)) => drop(map.insert(key, value)),
            (Self::Map(map), Place::Key(key), None) => drop(map.remove(&key)),
            (Self::List(values), Place::Index(index), value) => {
                // The list is as it was: nothing changes it while a function runs.
                if let Ok(index) = position(index, values.len()) {
                    match value {
                        Some(value) => values[index] = value,
                        None => drop(values.remove(index)),
                    }
                }
            }
            (Self::Cell(cell), Place::Whole, Some(value)) => *cell = value,
            _ => {}
        }
    }

    fn exchange(&mut self, place: &Place, old: Option<Value>, found: Option<Value>, new: Option<Value>) -> Body {
        let equal = match (&old, &found) {
            (None, None) => Ok(true),
            (Some(old), Some(found)) => old.is(found),
            _ => Ok(false),
        };
        match equal {
            Ok(true) => {
                let place = match place {
                    Place::Key(key) => Place::Key(key.clone()),
                    Place::Index(index) => Place::Index(*index),
                    Place::Whole => Place::Whole,
                };
                self.put(place, new);
                Body::Done
            }
            Ok(false) => Body::Unequal(found),
            Err(error) => Body::Failed(CallError::Decode(error)),
        }
    }
}

fn position(index: u64, length: usize) -> Result<usize, Body> {
    match usize::try_from(index) {
        Ok(index) if index < length => Ok(index),
        _ => Err(Body::Failed(CallError::OutOfBounds { index, length: length as u64 })),
    }
}

impl Map {
    fn insert(&mut self, key: Key, value: Value) -> Option<Value> {
        if let Some((_, old)) = self.entries.get_mut(&key) {
            return Some(std::mem::replace(old, value));
        }
        self.last += 1;
        self.order.insert(self.last, key.clone());
        self.entries.insert(key, (self.last, value));
        None
    }

    fn remove(&mut self, key: &Key) -> Option<Value> {
        let (number, value) = self.entries.remove(key)?;
        self.order.remove(&number);
        Some(value)
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.entries.get(key).map(|(_, value)| value.clone())
    }

    fn apply(&mut self, operation: Operation) -> Option<Body> {
        Some(match operation {
            Operation::Remove(key) => Body::Value(self.remove(&key)),
            Operation::Contains(key) => Body::Flag(self.entries.contains_key(&key)),
            Operation::GetOrInsert(key, value) => Body::Value(Some(match self.get(&key) {
                Some(found) => found,
                None => {
                    self.insert(key, value.clone());
                    value
                }
            })),
            Operation::GetMany(keys) => Body::Values(keys.iter().map(|key| self.get(key)).collect()),
            Operation::InsertMany(entries) => {
                for (key, value) in entries {
                    self.insert(key, value);
                }
                Body::Done
            }
            Operation::Keys => Body::Keys(self.order.values().cloned().collect()),
            Operation::Entries => {
                let entry = |key: &Key| Some((key.clone(), self.get(key)?));
                Body::Entries(self.order.values().filter_map(entry).collect())
            }
            Operation::Clear => {
                *self = Self { last: self.last, ..Self::default() };
                Body::Done
            }
            _ => return None,
        })
    }
}

fn apply_to_list(values: &mut Vec<Value>, operation: Operation) -> Option<Body> {
    Some(match operation {
        Operation::Push(mut more) => {
            values.append(&mut more);
            Body::Done
        }
        Operation::Pop => Body::Value(values.pop()),
        Operation::Insert(index, value) => match position(index, values.len() + 1) {
            Ok(index) => {
                values.insert(index, value);
                Body::Done
            }
            Err(_) => Body::Failed(CallError::OutOfBounds { index, length: values.len() as u64 }),
        },
        Operation::RemoveAt(index) => match position(index, values.len()) {
            Ok(index) => Body::Value(Some(values.remove(index))),
            Err(error) => error,
        },
        Operation::Values => Body::Values(values.iter().cloned().map(Some).collect()),
        Operation::Clear => {
            values.clear();
            Body::Done
        }
        _ => return None,
    })
}
