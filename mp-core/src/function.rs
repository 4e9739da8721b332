//! Functions as values: the trait that the attribute implements, and calls.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::EncodeError;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::registry;

/// A function that can run in another process.
///
/// [`#[process_fn]`](macro@crate::process_fn) implements it on a type that has the function's name. There is no reason to implement it
/// by hand: a function that is not registered, which only the attribute does, cannot be found in the child.
pub trait ProcessFn: Sized + 'static {
    /// The name under which a child finds the function: its path, or what `name = ".."` says.
    const NAME: &'static str;
    /// The parameters: `()`, the one type, or a tuple.
    type Args: Serialize + DeserializeOwned;
    /// What the function returns.
    type Output: Serialize + DeserializeOwned;
    /// Calls the function, here.
    fn invoke(args: Self::Args) -> Self::Output;
}

/// A function and its arguments, as a value: what `f::call(..)` returns.
///
/// # Examples
///
/// ```
/// use mp_core::{Builder, process_fn};
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// let call = add::call(1, 2);
/// assert_eq!(Builder::new().name("adder").spawn(call)?.join()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until it is spawned or submitted"]
pub struct Call<F: ProcessFn> {
    arguments: F::Args,
}

impl<F: ProcessFn> Call<F> {
    /// Makes a call of `F` with `arguments`, its parameters in order: `()`, the one value, or a tuple.
    pub fn new(arguments: F::Args) -> Self {
        Self { arguments }
    }

    /// Gives the arguments back.
    pub fn into_arguments(self) -> F::Args {
        self.arguments
    }

    /// Runs the call here, in this process.
    pub fn run(self) -> F::Output {
        F::invoke(self.arguments)
    }

    /// Encodes the call, for code that passes it on without knowing its types.
    ///
    /// # Errors
    ///
    /// The arguments cannot be encoded, or are longer than [`message_limit`](crate::message_limit).
    pub fn encode(&self) -> Result<EncodedCall, EncodeError> {
        Ok(EncodedCall { function: Cow::Borrowed(F::NAME), arguments: Message::encode(&self.arguments)? })
    }
}

impl<F: ProcessFn> fmt::Debug for Call<F>
where
    F::Args: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("function", &F::NAME).field("arguments", &self.arguments).finish()
    }
}

impl<F: ProcessFn> Clone for Call<F>
where
    F::Args: Clone,
{
    fn clone(&self) -> Self {
        Self { arguments: self.arguments.clone() }
    }
}

/// A call without its types: the function's name and the encoded arguments. It is a value, and it can be run.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// let outcome = add::call(1, 2).encode()?.run();
/// assert_eq!(outcome.decode::<u64>()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct EncodedCall {
    function: Cow<'static, str>,
    arguments: Message,
}

impl EncodedCall {
    /// Returns the name of the function.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Tells whether the arguments hold handles.
    pub fn has_handles(&self) -> bool {
        self.arguments.has_handles()
    }

    /// Runs the call here, in this process. A panic of the function becomes part of the outcome.
    pub fn run(self) -> Outcome {
        match registry::find(&self.function) {
            Some(registration) => registration.run(self.arguments),
            None => Outcome::UnknownFunction(self.function.into_owned()),
        }
    }
}
