//! Calls as values, with their types and without.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::EncodeError;
use crate::function::{Borrowing, ProcessFn};
use crate::message::Message;
use crate::outcome::Outcome;
use crate::registry;

/// A function and its arguments, as a value: what `f::call(..)` returns.
///
/// A call of a function that takes references holds references, of type `A`: `Call<f, (&str, u64)>`
/// for `fn f(text: &str, n: u64)`. They are encoded as they stand, without a copy of the value, by
/// whatever the call is given to; it can be let go of afterwards. To keep such a call for longer
/// than what it borrows, make it of owned arguments with [`new`](Self::new): `Call<f>` is short for
/// the call that owns its arguments.
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
///
/// ```
/// use mp_core::{Builder, Call, process_fn};
///
/// #[process_fn]
/// fn count(text: &str, words: &[String]) -> usize {
///     words.iter().map(|word| text.matches(word).count()).sum()
/// }
///
/// let (text, words) = ("to be or not to be".to_owned(), vec!["to".to_owned(), "or".to_owned()]);
/// assert_eq!(Builder::new().spawn(count::call(&text, &words))?.join()?, 3);
///
/// let kept: Call<count> = Call::new((text, words));
/// assert_eq!(Builder::new().spawn(kept)?.join()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until it is spawned or submitted"]
pub struct Call<F: ProcessFn, A = <F as ProcessFn>::Args> {
    arguments: A,
    encode: fn(&A) -> Result<Message, EncodeError>,
    run: fn(A) -> F::Output,
}

impl<F: ProcessFn> Call<F> {
    /// Makes a call of `F` with `arguments`, its parameters in order: `()`, the one value, or a
    /// tuple. What the function takes by reference is owned here: a `String` for a `&str`, a
    /// `Vec<T>` for a `&[T]`, a `T` for a `&T`.
    pub fn new(arguments: F::Args) -> Self {
        Self { arguments, encode: Message::encode, run: F::invoke }
    }
}

impl<'a, F: Borrowing> Call<F, F::Arguments<'a>> {
    /// Makes a call of a function that takes references, with them.
    pub(crate) fn borrowing(arguments: F::Arguments<'a>) -> Self
    where
        F::Arguments<'a>: Serialize,
    {
        Self { arguments, encode: Message::encode, run: F::run }
    }
}

impl<F: ProcessFn, A> Call<F, A> {
    /// Gives the arguments back.
    pub fn into_arguments(self) -> A {
        self.arguments
    }

    /// Runs the call here, in this process. The future of an `async` function is run to its end, by
    /// the same executor as in a process of its own; some executors panic if another one is already
    /// running on this thread.
    pub fn run(self) -> F::Output {
        (self.run)(self.arguments)
    }

    /// Encodes the call, for code that passes it on without knowing its types.
    ///
    /// # Errors
    ///
    /// The arguments cannot be encoded, or are longer than [`message_limit`](crate::message_limit).
    pub fn encode(&self) -> Result<EncodedCall, EncodeError> {
        Ok(EncodedCall { function: Cow::Borrowed(F::NAME), arguments: (self.encode)(&self.arguments)? })
    }
}

impl<F: ProcessFn, A: fmt::Debug> fmt::Debug for Call<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("function", &F::NAME).field("arguments", &self.arguments).finish()
    }
}

impl<F: ProcessFn, A: Clone> Clone for Call<F, A> {
    fn clone(&self) -> Self {
        Self { arguments: self.arguments.clone(), encode: self.encode, run: self.run }
    }
}

/// A call without its types: the function's name and the encoded arguments. It is a value, and it
/// can be run.
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
