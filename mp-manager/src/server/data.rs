//! Maps, lists and cells, and what each operation does to them.
//!
//! Every change goes through [`Data::change`], which notes it for the watchers.

use std::collections::{BTreeMap, HashMap};

use super::content::{Content, Step, mismatch};
use super::job;
use super::waiting::{Answers, Waiter};
use super::watchers::Watchers;
use crate::error::CallError;
use crate::value::{Entry, Key, Value};
use crate::wire::{Body, Change, END, Operation, Place};

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

    pub(super) fn apply(&mut self, operation: Operation, who: Waiter) -> Result<Step, CallError> {
        Ok(Step::Answer(match (&self.values, operation) {
            (values, Operation::Get(place)) => match values.look(&place) {
                Err(CallError::OutOfBounds { .. }) => Body::Value(None),
                found => Body::Value(found?),
            },
            (_, Operation::Change(change)) => Body::Value(self.change(change)?),
            (_, Operation::Changes(changes)) => {
                changes.into_iter().try_for_each(|change| self.change(change).map(drop))?;
                Body::Done
            }
            (values, Operation::Modify { place, function, argument }) => {
                let old = values.look(&place)?;
                return Ok(Step::Run(Box::new(move || job::modify(place, function, old, argument))));
            }
            (values, Operation::CompareExchange { place, old, new }) => {
                let found = values.look(&place)?;
                let equal = match (&old, &found) {
                    (Some(old), Some(found)) => old.is(found).map_err(CallError::Decode)?,
                    (old, found) => old.is_none() && found.is_none(),
                };
                if equal {
                    self.put(place, new);
                }
                if equal { Body::Done } else { Body::Unequal(found) }
            }
            (_, Operation::Watch(number)) => return self.watchers.ask(who, number).map(|()| Step::Wait),
            (_, Operation::Unwatch(number)) => {
                self.watchers.end(who.client, Some(number));
                Body::Done
            }
            (values, Operation::Entries) => Body::Entries(values.entries().into()),
            (Values::Map(map), Operation::Contains(key)) => Body::Flag(map.entries.contains_key(&key)),
            (Values::Map(map), Operation::GetMany(keys)) => Body::Values(keys.iter().map(|key| map.get(key)).collect()),
            (Values::Map(map), Operation::Keys) => {
                let nothing = Value::encode(&())?;
                let keys: Vec<_> = map.order.values().map(|key| (key.clone(), nothing.clone())).collect();
                Body::Entries(keys.into())
            }
            _ => return Err(mismatch()),
        }))
    }

    /// Puts a value at a place where a function found the old one. `None` removes it.
    pub(super) fn put(&mut self, place: Place, value: Option<Value>) {
        // The value of a cell stays.
        let _ = self.change(match value {
            Some(value) => Change::Put(place, value),
            None => Change::Remove(place),
        });
    }

    /// Changes the values, and returns the one that was there.
    fn change(&mut self, mut change: Change) -> Result<Option<Value>, CallError> {
        let end = self.len();
        match &mut change {
            Change::Insert(index @ END, _) => *index = end,
            // Of an empty list nothing is removed.
            Change::Remove(Place::Index(END)) if end == 0 => return Ok(None),
            Change::Remove(Place::Index(index @ END)) => *index = end - 1,
            _ => {}
        }
        let noted = (!self.watchers.are_none()).then(|| change.clone());
        let old = match (&mut self.values, change) {
            (Values::Map(map), Change::Put(Place::Key(key), value)) => map.insert(key, value),
            (Values::Map(map), Change::Remove(Place::Key(key))) => map.remove(&key),
            (Values::Map(map), Change::Clear) => {
                *map = Map { last: map.last, ..Map::default() };
                None
            }
            (Values::List(values), Change::Put(Place::Index(index), value)) => {
                let index = check(index, end)?;
                Some(std::mem::replace(&mut values[index], value))
            }
            (Values::List(_), Change::Insert(index, _)) if index > end => {
                return Err(CallError::OutOfBounds { index, length: end });
            }
            (Values::List(values), Change::Insert(index, value)) => {
                values.insert(index as usize, value);
                None
            }
            (Values::List(values), Change::Remove(Place::Index(index))) => Some(values.remove(check(index, end)?)),
            (Values::List(values), Change::Clear) => {
                values.clear();
                None
            }
            (Values::Cell(cell), Change::Put(Place::Whole, value)) => Some(std::mem::replace(cell, value)),
            _ => return Err(mismatch()),
        };
        if let Some(change) = noted.filter(|change| !matches!(change, Change::Remove(_)) || old.is_some()) {
            self.watchers.note(change);
        }
        Ok(old)
    }

    /// Answers watchers that wait for a change.
    pub(super) fn settle(&mut self, answers: &mut Answers) {
        let Self { values, watchers } = self;
        watchers.settle(|| values.entries(), answers);
    }
}

fn check(index: u64, length: u64) -> Result<usize, CallError> {
    if index < length { Ok(index as usize) } else { Err(CallError::OutOfBounds { index, length }) }
}

impl Values {
    /// Returns the value at a place.
    fn look(&self, place: &Place) -> Result<Option<Value>, CallError> {
        match (self, place) {
            (Self::Map(map), Place::Key(key)) => Ok(map.get(key)),
            (Self::List(values), Place::Index(index)) => Ok(Some(values[check(*index, values.len() as u64)?].clone())),
            (Self::Cell(value), Place::Whole) => Ok(Some(value.clone())),
            _ => Err(mismatch()),
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
