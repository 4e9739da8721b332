//! What runs on threads of the server: functions and methods of the user's.

use std::sync::{Arc, PoisonError, RwLock};

use mp_core::raw::{Message, RawFunction, catch_panic};

use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::Value;
use crate::wire::Place;

/// A function to run.
pub(super) struct Job {
    pub(super) client: u64,
    pub(super) call: u64,
    /// 0 for a constructor.
    pub(super) object: u64,
    pub(super) work: Work,
}

pub(super) enum Work {
    Modify { place: Place, function: String, values: Option<(Option<Value>, Value)> },
    Call { value: Arc<RwLock<Own>>, method: Method, arguments: Option<Value> },
    Construct { class: String, method: u32, arguments: Option<Value>, interface: String },
    Drop(Arc<RwLock<Own>>),
    // What came of it.
    Modified(Place, Result<(Option<Message>, Message), CallError>),
    Called(Result<Message, CallError>),
    Constructed(String, Result<(&'static Class, Option<Own>, Message), CallError>),
}

impl Job {
    pub(super) fn run(&mut self) {
        let work = std::mem::replace(&mut self.work, Work::Called(Err(CallError::NoSuchObject)));
        self.work = match work {
            Work::Modify { place, function, values } => Work::Modified(place, modify(function, values)),
            Work::Call { value, method, arguments } => Work::Called(call(&value, method, arguments)),
            Work::Construct { class, method, arguments, interface } => {
                Work::Constructed(interface, construct(&class, method, arguments))
            }
            Work::Drop(value) => {
                let _ = catch_panic(|| drop(value));
                return;
            }
            over => over,
        };
    }
}

fn message(value: Option<Value>) -> Result<Message, CallError> {
    let value = value.ok_or(CallError::NoSuchObject)?;
    value.into_message().map_err(|error| CallError::Busy(format!("a value could not be read: {error}")))
}

fn modify(function: String, values: Option<(Option<Value>, Value)>) -> Result<(Option<Message>, Message), CallError> {
    let (old, argument) = values.ok_or(CallError::NoSuchObject)?;
    let old = old.map(|old| message(Some(old))).transpose()?;
    let argument = message(Some(argument))?;
    match RawFunction::find(&function) {
        Some(found) => found.change(old, argument).map_err(CallError::from_outcome),
        None => Err(CallError::UnknownFunction(function)),
    }
}

fn call(value: &RwLock<Own>, method: Method, arguments: Option<Value>) -> Result<Message, CallError> {
    let arguments = message(arguments)?;
    // The functions catch panics, so the lock is never poisoned.
    match method {
        Method::Shared(run) => run(&value.read().unwrap_or_else(PoisonError::into_inner), arguments),
        Method::Exclusive(run) => run(&mut value.write().unwrap_or_else(PoisonError::into_inner), arguments),
        Method::Create(_) => Err(CallError::UnknownFunction("a constructor called as a method".to_owned())),
    }
}

pub(super) type Constructed = (&'static Class, Option<Own>, Message);

fn construct(class: &str, method: u32, arguments: Option<Value>) -> Result<Constructed, CallError> {
    let class = Class::find(class)?;
    match class.method(method)? {
        Method::Create(run) => run(message(arguments)?).map(|(value, result)| (class, value, result)),
        _ => Err(CallError::UnknownFunction("a method called as a constructor".to_owned())),
    }
}
