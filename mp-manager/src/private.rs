//! What the expansion of the attribute uses. It is not part of the public interface and may change
//! at any time.

pub use linkme;
pub use serde;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::__proxy as proxy;
pub use crate::class::{CLASSES, Class, Created, JsonMethod, Method, Own, create, exclusive, shared, try_create};
use crate::error::CallError;
pub use crate::handle::sealed::Sealed;
pub use crate::handle::{Handle, Together};
use crate::handle::{Host, ask, decode, encode};
use crate::reply::Reply;
use crate::value::Value;
use crate::wire::{Answer, Lease, Operation};

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

/// Calls a constructor that cannot fail.
pub fn new<P: Sealed>(host: &impl Host, class: &str, method: u32, arguments: &impl Serialize) -> Result<P, CallError> {
    made(host, construct(host, class, method, arguments, P::interface())?)
}

/// Calls a constructor that can fail.
pub fn try_new<P: Sealed, E: DeserializeOwned>(
    host: &impl Host,
    class: &str,
    method: u32,
    arguments: &impl Serialize,
) -> Result<Result<P, E>, CallError> {
    match construct::<Result<Lease, Value>>(host, class, method, arguments, P::interface())? {
        Ok(lease) => made(host, lease).map(Ok),
        Err(error) => decode(error).map(Err),
    }
}

fn made<P: Sealed>(host: &impl Host, lease: Lease) -> Result<P, CallError> {
    Handle::new(host.link(), lease).map(P::from_handle)
}

fn construct<A: Answer>(
    host: &impl Host,
    class: &str,
    method: u32,
    arguments: &impl Serialize,
    interface: String,
) -> Result<A, CallError> {
    let arguments = encode(arguments)?;
    ask(host.link(), Operation::Construct { class: class.to_owned(), method, arguments, interface })
}

/// Calls a method.
pub fn call<R: DeserializeOwned>(handle: &Handle, method: u32, arguments: &impl Serialize) -> Result<R, CallError> {
    handle.certain(Operation::Call(method, encode(arguments)?))
}

/// Sends a call of a method.
pub fn later<R: DeserializeOwned>(together: &Together<'_>, method: u32, arguments: &impl Serialize) -> Reply<R> {
    Reply::new(together.0, encode(arguments).map(|arguments| (method, arguments)))
}

/// Lets an object be used again after a panic.
pub fn clear_poison(handle: &Handle) -> Result<(), CallError> {
    handle.call(Operation::ClearPoison)
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
