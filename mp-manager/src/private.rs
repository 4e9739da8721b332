//! What the expansion of the attribute uses. It is not part of the public interface and may change
//! at any time.

pub use linkme;
pub use serde;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use crate::__proxy as proxy;
pub use crate::class::{CLASSES, Class, Created, JsonMethod, Method, Own, create as construct, exclusive, shared};
use crate::error::CallError;
pub use crate::handle::sealed::Sealed;
pub use crate::handle::{Handle, Together};
use crate::handle::{Host, ask};
use crate::reply::Reply;
use crate::value::Value;
use crate::wire::{Lease, Operation};

/// A type that a method can take or return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to the server of a manager",
    label = "cannot be sent to another process",
    note = "arguments and results are sent by serde: add `#[derive(serde::Serialize, serde::Deserialize)]` to the type and the types inside it"
)]
pub trait Travels: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Travels for T {}

/// Makes the compiler point at a type that cannot be sent.
pub const fn assert_travels<T: Travels>() {}

/// The error of a constructor that cannot fail.
#[derive(Serialize, Deserialize)]
pub enum Never {}

/// Calls a constructor.
pub fn create<P: Sealed, E: DeserializeOwned>(
    host: &impl Host,
    class: &str,
    method: u32,
    arguments: &impl Serialize,
) -> Result<Result<P, E>, CallError> {
    let (class, arguments, interface) = (class.to_owned(), Value::encode(arguments)?, P::interface());
    match ask::<Result<Lease, Value>>(host.link(), Operation::Construct { class, method, arguments, interface })? {
        Ok(lease) => Handle::new(host.link(), lease).map(P::from_handle).map(Ok),
        Err(error) => Value::decode(error).map(Err),
    }
}

/// Calls a method.
pub fn call<R: DeserializeOwned>(handle: &Handle, method: u32, arguments: &impl Serialize) -> Result<R, CallError> {
    handle.certain(Operation::Call(method, Value::encode(arguments)?))
}

/// Sends a call of a method.
pub fn later<R: DeserializeOwned>(together: &Together<'_>, method: u32, arguments: &impl Serialize) -> Reply<R> {
    Reply::new(together.0, method, Value::encode(arguments))
}

/// Lets an object be used again after a panic.
pub fn clear_poison(handle: &Handle) -> Result<(), CallError> {
    handle.call(Operation::SetFlag(false))
}

/// Calls a method with arguments and a result in JSON.
#[cfg(feature = "json")]
pub fn json_call<A: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned>(
    handle: &Handle,
    method: u32,
    arguments: &str,
) -> Result<String, String> {
    let arguments: A = serde_json::from_str(arguments).map_err(|error| format!("the arguments: {error}"))?;
    let result: R = call(handle, method, &arguments).map_err(|error| mp_core::raw::error_chain(&error))?;
    serde_json::to_string(&result).map_err(|error| format!("the result: {error}"))
}

/// Lets calls of an object be sent together.
pub fn together(handle: &Handle) -> Together<'_> {
    Together(handle)
}
