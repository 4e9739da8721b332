//! Types of the user's whose values live in a server.
//!
//! The attribute `#[shared]` registers a [`Class`] for each, with a function for each constructor
//! and method. The functions decode the arguments, run the method and encode its result.

use std::any::Any;
use std::sync::{PoisonError, RwLock};

use linkme::distributed_slice;
use mp_core::raw::{Message, catch_panic};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::handle::Handle;

/// Every type of the executable that has the attribute.
#[distributed_slice]
pub static CLASSES: [Class];

/// A value of such a type.
pub type Own = Box<dyn Any + Send + Sync>;

/// What a constructor made, or its own error.
pub type Created = Result<Own, Message>;

/// A type.
#[derive(Debug)]
pub struct Class {
    /// Its path, or the name from `name = ".."`.
    pub name: &'static str,
    /// Its constructors and methods with their paths. Calls name them by their places.
    pub methods: &'static [(&'static str, Method)],
    /// Says of which type its proxies are.
    pub interface: fn() -> String,
    /// Its methods for programs in other languages; none without `json`.
    pub json: &'static [JsonMethod],
}

/// A method whose arguments and result are JSON.
#[derive(Clone, Copy, Debug)]
pub struct JsonMethod {
    /// Its name.
    pub name: &'static str,
    /// Its place among the methods.
    pub place: u32,
    /// Calls it with an array of arguments.
    pub call: fn(&Handle, u32, &str) -> Result<String, String>,
}

/// A constructor or a method.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// Makes a value.
    Create(fn(Message) -> Result<Created, CallError>),
    /// Takes `&self`.
    Shared(fn(&RwLock<Own>, Message) -> Result<Message, CallError>),
    /// Takes `&mut self`.
    Exclusive(fn(&RwLock<Own>, Message) -> Result<Message, CallError>),
}

impl Class {
    pub(crate) fn find(name: &str) -> Result<&'static Self, CallError> {
        let mut found = CLASSES.iter().filter(|class| class.name == name);
        let class = found.next().ok_or_else(|| CallError::UnknownFunction(name.to_owned()))?;
        match found.next() {
            None => Ok(class),
            Some(_) => Err(CallError::DuplicateType(name.to_owned())),
        }
    }

    pub(crate) fn method(&self, place: u32) -> Result<(&'static str, Method), CallError> {
        let method = self.methods.get(place as usize).copied();
        method.ok_or_else(|| CallError::UnknownFunction(format!("{}, method {place}", self.name)))
    }
}

fn run<R>(f: impl FnOnce() -> R) -> Result<R, CallError> {
    catch_panic(f).map_err(CallError::Panicked)
}

fn encode(value: &impl Serialize) -> Result<Message, CallError> {
    // A `Serialize` of the user's may panic as well.
    run(|| Message::encode(value))?.map_err(CallError::Encode)
}

fn decode<A: DeserializeOwned>(arguments: Message) -> Result<A, CallError> {
    run(|| arguments.decode())?.map_err(CallError::Decode)
}

/// Why a method never meets a value of another type.
const SAME_CLASS: &str = "a constructor of the method's own class made the value";

/// Runs a constructor.
pub fn create<T: Send + Sync + 'static, A: DeserializeOwned, E: Serialize>(
    arguments: Message,
    constructor: fn(A) -> Result<T, E>,
) -> Result<Created, CallError> {
    let arguments = decode(arguments)?;
    match run(|| constructor(arguments))? {
        Ok(value) => Ok(Ok(Box::new(value))),
        Err(error) => encode(&error).map(Err),
    }
}

/// Runs a method that takes `&self`.
pub fn shared<T: 'static, A: DeserializeOwned, R: Serialize>(
    value: &RwLock<Own>,
    arguments: Message,
    method: fn(&T, A) -> R,
) -> Result<Message, CallError> {
    // A panic is caught before it reaches the lock.
    let value = value.read().unwrap_or_else(PoisonError::into_inner);
    let value = value.downcast_ref::<T>().expect(SAME_CLASS);
    let arguments = decode(arguments)?;
    encode(&run(|| method(value, arguments))?)
}

/// Runs a method that takes `&mut self`.
pub fn exclusive<T: 'static, A: DeserializeOwned, R: Serialize>(
    value: &RwLock<Own>,
    arguments: Message,
    method: fn(&mut T, A) -> R,
) -> Result<Message, CallError> {
    let mut value = value.write().unwrap_or_else(PoisonError::into_inner);
    let value = value.downcast_mut::<T>().expect(SAME_CLASS);
    let arguments = decode(arguments)?;
    encode(&run(|| method(value, arguments))?)
}
