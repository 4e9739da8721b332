//! Maps, lists and cells, and what each operation does to them.
//!
//! Every change goes through [`Data::change`], which notes it for the watchers.

use std::collections::{BTreeMap, HashMap};

use super::content::{Content, Modification, Step};
use super::waiting::{Answers, Waiter};
use super::watchers::Watchers;
use crate::error::CallError;
use crate::value::{Entry, Key, Value};
use crate::wire::{Body, Change, Operation, Place};

pub(super) struct Data {
    values: Values,
    pub(super) watchers: Watchers,
}

pub(super) enum Values {
    Map(Map),
    List(Vec<Value>),
    Cell(Value),
}

/// Entries, and the order in which their keys were inserted.
#[derive(Default)]
pub(super) struct Map {
    entries: HashMap<Key, (u64, Value)>,
    order: BTreeMap<u64, Key>,
    last: u64,
}

impl From<Values> for Content {
    fn from(values: Values) -> Self {
        Self::Data(Data { values, watchers: Watchers::default() })
    }
}

impl Data {
    pub(super) fn len(&self) -> u64 {
        match &self.values {
            Values::Map(map) => map.entries.len() as u64,
            Values::List(values) => values.len() as u64,
            Values::Cell(_) => 1,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation, who: Waiter) -> Step {
        let length = self.len();
        Step::Answer(match (&self.values, operation) {
            (_, Operation::Modify { place, function, argument }) => match self.values.look(&place) {
                Ok(old) => return Step::Run(Modification { place, function, old, argument }),
                Err(step) => return step,
            },
            (_, Operation::CompareExchange { place, old, new }) => match self.values.look(&place) {
                Ok(found) => self.exchange(place, old, found, new),
                Err(step) => return step,
            },
            (_, Operation::Get(place)) => match self.values.look(&place) {
                Ok(value) => Body::Value(value),
                Err(Step::Answer(Body::Failed(CallError::OutOfBounds { .. }))) => Body::Value(None),
                Err(step) => return step,
            },
            (_, Operation::Set(place, value)) => match self.values.look(&place) {
                Ok(_) => Body::Value(self.change(Change::Put(place, value))),
                Err(step) => return step,
            },
            (_, Operation::Watch(..)) if self.watchers.are_too_many() => {
                Body::Failed(CallError::Busy("too many processes watch the object".to_owned()))
            }
            (values, Operation::Watch(number, timeout)) => match self.watchers.ask(who, number, || values.entries()) {
                Some(body) => body,
                None => return Step::Wait(timeout),
            },
            (_, Operation::Unwatch(number)) => {
                self.watchers.end(who.client, Some(number));
                return Step::Silent;
            }
            (_, Operation::Len) => Body::Number(length),
            (values, Operation::Entries) => Body::Entries(values.entries()),
            (values, Operation::Freeze) => return Step::Make(values.entries()),
            (Values::Map(_) | Values::List(_), Operation::Clear) => {
                self.change(Change::Clear);
                Body::Done
            }
            (Values::Map(_), Operation::Remove(key)) => Body::Value(self.change(Change::Remove(Place::Key(key)))),
            (Values::Map(map), Operation::Contains(key)) => Body::Flag(map.entries.contains_key(&key)),
            (Values::Map(map), Operation::GetOrInsert(key, value)) => Body::Value(Some(match map.get(&key) {
                Some(found) => found,
                None => {
                    self.change(Change::Put(Place::Key(key), value.clone()));
                    value
                }
            })),
            (Values::Map(map), Operation::GetMany(keys)) => Body::Values(keys.iter().map(|key| map.get(key)).collect()),
            (Values::Map(_), Operation::InsertMany(entries)) => {
                for (key, value) in entries {
                    self.change(Change::Put(Place::Key(key), value));
                }
                Body::Done
            }
            (Values::Map(map), Operation::Keys) => Body::Keys(map.order.values().cloned().collect()),
            (Values::List(_), Operation::Push(more)) => {
                for (index, value) in (length..).zip(more) {
                    self.change(Change::Insert(index, value));
                }
                Body::Done
            }
            (Values::List(_), Operation::Pop) => {
                Body::Value(length.checked_sub(1).and_then(|last| self.change(Change::Remove(Place::Index(last)))))
            }
            (Values::List(_), Operation::Insert(index, value)) if index <= length => {
                self.change(Change::Insert(index, value));
                Body::Done
            }
            (Values::List(_), Operation::RemoveAt(index)) if index < length => {
                Body::Value(self.change(Change::Remove(Place::Index(index))))
            }
            (Values::List(_), Operation::Insert(index, _) | Operation::RemoveAt(index)) => {
                Body::Failed(CallError::OutOfBounds { index, length })
            }
            _ => return Step::Mismatch,
        })
    }

    /// Puts a value at a place where a function found the old one. `None` removes it.
    pub(super) fn put(&mut self, place: Place, value: Option<Value>) {
        self.change(match value {
            Some(value) => Change::Put(place, value),
            None => Change::Remove(place),
        });
    }

    /// Changes the values, and returns the one that was there. A place that does not exist is left
    /// alone, and so is a cell that is to be emptied.
    fn change(&mut self, change: Change) -> Option<Value> {
        let noted = (!self.watchers.are_none()).then(|| change.clone());
        let old = match (&mut self.values, change) {
            (Values::Map(map), Change::Put(Place::Key(key), value)) => map.insert(key, value),
            (Values::Map(map), Change::Remove(Place::Key(key))) => map.remove(&key),
            (Values::Map(map), Change::Clear) => {
                *map = Map { last: map.last, ..Map::default() };
                None
            }
            (Values::List(values), Change::Put(Place::Index(index), value)) => {
                values.get_mut(index as usize).map(|old| std::mem::replace(old, value))
            }
            (Values::List(values), Change::Insert(index, value)) => {
                values.insert(index as usize, value);
                None
            }
            (Values::List(values), Change::Remove(Place::Index(index))) => {
                ((index as usize) < values.len()).then(|| values.remove(index as usize))
            }
            (Values::List(values), Change::Clear) => {
                values.clear();
                None
            }
            (Values::Cell(cell), Change::Put(Place::Whole, value)) => Some(std::mem::replace(cell, value)),
            _ => None,
        };
        if let Some(change) = noted.filter(|change| !matches!(change, Change::Remove(_)) || old.is_some()) {
            self.watchers.note(change);
        }
        old
    }

    /// Answers watchers that wait for a change.
    pub(super) fn settle(&mut self, answers: &mut Answers) {
        let Self { values, watchers } = self;
        watchers.settle(|| values.entries(), answers);
    }

    fn exchange(&mut self, place: Place, old: Option<Value>, found: Option<Value>, new: Option<Value>) -> Body {
        let equal = match (&old, &found) {
            (None, None) => Ok(true),
            (Some(old), Some(found)) => old.is(found),
            _ => Ok(false),
        };
        match equal {
            Ok(true) => {
                self.put(place, new);
                Body::Done
            }
            Ok(false) => Body::Unequal(found),
            Err(error) => Body::Failed(CallError::Decode(error)),
        }
    }
}

impl Values {
    /// Returns the value at a place.
    fn look(&self, place: &Place) -> Result<Option<Value>, Step> {
        match (self, place) {
            (Self::Map(map), Place::Key(key)) => Ok(map.get(key)),
            (Self::List(values), Place::Index(index)) => match values.get(*index as usize) {
                Some(value) => Ok(Some(value.clone())),
                None => {
                    let error = CallError::OutOfBounds { index: *index, length: values.len() as u64 };
                    Err(Step::Answer(Body::Failed(error)))
                }
            },
            (Self::Cell(value), Place::Whole) => Ok(Some(value.clone())),
            _ => Err(Step::Mismatch),
        }
    }

    /// Returns all values, with their keys in a map and with empty keys elsewhere.
    fn entries(&self) -> Vec<Entry> {
        let without_key = |value: &Value| (Key::default(), value.clone());
        match self {
            Self::Map(map) => {
                let entry = |key: &Key| Some((key.clone(), map.get(key)?));
                map.order.values().filter_map(entry).collect()
            }
            Self::List(values) => values.iter().map(without_key).collect(),
            Self::Cell(value) => vec![without_key(value)],
        }
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
}
