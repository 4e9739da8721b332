//! What runs on threads of the server: functions and methods of the user's.

use std::sync::RwLock;

use mp_core::raw::{Message, RawFunction};

use super::content::Object;
use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::Value;
use crate::wire::Place;

/// A function to run, and who called it.
pub(super) struct Job {
    pub(super) client: u64,
    pub(super) call: u64,
    /// 0 for a constructor.
    pub(super) object: u64,
    pub(super) work: Work,
}

/// Does not panic.
pub(super) type Work = Box<dyn FnOnce() -> Result<Ran, CallError> + Send>;

/// What came of a function.
pub(super) enum Ran {
    /// What the function put in place of the value, and what its caller gets.
    Modified(Place, Option<Message>, Message),
    Called(Message),
    /// A value, and of which type its proxies are.
    Constructed(String, Object),
    Dropped,
}

fn message(value: Value) -> Result<Message, CallError> {
    value.into_message().map_err(|error| CallError::Busy(format!("a value could not be read: {error}")))
}

pub(super) fn modify(place: Place, function: String, old: Option<Value>, argument: Value) -> Result<Ran, CallError> {
    let (old, argument) = (old.map(message).transpose()?, message(argument)?);
    let found = RawFunction::find(&function).ok_or(CallError::UnknownFunction(function))?;
    let (new, result) = found.change(old, argument).map_err(CallError::from_outcome)?;
    Ok(Ran::Modified(place, new, result))
}

pub(super) fn call(
    value: &RwLock<Own>,
    (name, method): (&'static str, Method),
    arguments: Value,
) -> Result<Ran, CallError> {
    let (Method::Shared(run) | Method::Exclusive(run)) = method else {
        return Err(CallError::UnknownFunction(format!("{name}, a constructor, as a method")));
    };
    run(value, message(arguments)?).map(Ran::Called).map_err(|error| error.within(name))
}

pub(super) fn construct(interface: String, class: &str, method: u32, arguments: Value) -> Result<Ran, CallError> {
    let class = Class::find(class)?;
    let (name, Method::Create(run)) = class.method(method)? else {
        return Err(CallError::UnknownFunction(format!("{}, method {method}, as a constructor", class.name)));
    };
    Ok(match run(message(arguments)?).map_err(|error| error.within(name))? {
        Ok(value) => Ran::Constructed(interface, Object::new(class, value)),
        Err(error) => Ran::Called(error),
    })
}
