//! Calls as values, with their types and without.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use serde::{Deserialize, Serialize};

use crate::codec::EncodeError;
use crate::function::{Borrowing, ProcessFn};
use crate::large::LargeMessages;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::registry::{self, Arguments, Registration};

/// A function and its arguments, as a value. `f::call(..)` returns it.
///
/// A call of a function that takes references holds those references: for `fn f(text: &str, n:
/// u64)` it is a `Call<f, (&str, u64)>`. Spawning or submitting it encodes the values behind the
/// references, without a copy, and ends the borrow. If a call has to outlive what it borrows, make
/// it from owned arguments with [`new`](Self::new). `Call<f>` is the type of a call that owns its
/// arguments.
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
    encode: EncodeOnto<A>,
    run: fn(A) -> F::Output,
}

type EncodeOnto<A> = fn(&A, &mut Vec<u8>, usize, Option<&LargeMessages>) -> Result<Option<Message>, EncodeError>;

impl<F: ProcessFn> Call<F> {
    /// Makes a call of `F` that owns `arguments`: `()`, the one argument, or a tuple of the
    /// arguments in order. For a parameter that is a reference, pass the owned type: a `String` for
    /// `&str`, a `Vec<T>` for `&[T]`, a `T` for `&T`.
    pub fn new(arguments: F::Args) -> Self {
        Self { arguments, encode: Message::append, run: F::invoke }
    }
}

impl<'a, F: Borrowing> Call<F, F::Arguments<'a>> {
    /// Makes a call that holds references.
    pub(crate) fn borrowing(arguments: F::Arguments<'a>) -> Self
    where
        F::Arguments<'a>: Serialize,
    {
        Self { arguments, encode: Message::append, run: F::run }
    }
}

impl<F: ProcessFn, A> Call<F, A> {
    /// Returns the arguments.
    pub fn into_arguments(self) -> A {
        self.arguments
    }

    /// Runs the call in this process. If the function is `async`, its executor runs the future to
    /// its end; some executors panic if another one is already running on this thread.
    pub fn run(self) -> F::Output {
        (self.run)(self.arguments)
    }

    /// Encodes the call, for code that passes on calls of any type.
    ///
    /// # Errors
    ///
    /// Fails if the arguments cannot be encoded or are longer than
    /// [`message_limit`](crate::message_limit).
    pub fn encode(&self) -> Result<EncodedCall, EncodeError> {
        // Nothing but a value without bytes is short enough to be written there.
        let arguments = self.encode_arguments(&mut Vec::new(), 0, None)?;
        Ok(EncodedCall { function: Cow::Borrowed(F::ID), arguments: arguments.unwrap_or_else(Message::empty) })
    }

    /// Appends the encoded arguments to `bytes` if they take at most `most` bytes and contain no
    /// descriptors. Otherwise returns them as a message. See [`Message::append`].
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_arguments(
        &self,
        bytes: &mut Vec<u8>,
        most: usize,
        large: Option<&LargeMessages>,
    ) -> Result<Option<Message>, EncodeError> {
        (self.encode)(&self.arguments, bytes, most, large)
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

/// A call without its types: the function's ID and the encoded arguments. It can be run, and sent
/// as a value.
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
    /// The ID of the function.
    function: Cow<'static, str>,
    arguments: Message,
}

impl EncodedCall {
    /// Returns the name of the function. If this executable does not have the function, it is its
    /// ID.
    pub fn function(&self) -> &str {
        registry::find(&self.function).map_or(&self.function, |function| function.name())
    }

    /// The numbers of the descriptors in the arguments.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.arguments.descriptors().iter().map(|fd| fd.as_fd().as_raw_fd())
    }

    /// Tells whether the arguments contain descriptors.
    pub fn has_descriptors(&self) -> bool {
        self.arguments.has_descriptors()
    }

    /// Runs the call in this process. If the function panics, the outcome says so.
    pub fn run(self) -> Outcome {
        match registry::find(&self.function) {
            Some(registration) => registration.run(self.arguments),
            None => Outcome::UnknownFunction(self.function.into_owned()),
        }
    }
}

/// A registered function without its types, for code that runs many calls of it.
///
/// # Examples
///
/// ```
/// use mp_core::raw::{RawFunction, decode_plain};
/// use mp_core::{ProcessFn, process_fn};
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// let function = RawFunction::find(add::ID).unwrap();
/// let (mut arguments, mut result) = (Vec::new(), Vec::new());
/// assert!(add::call(1, 2).encode_arguments(&mut arguments, 64, None)?.is_none());
/// assert!(function.run_bytes(&mut arguments, &mut result, 64, None).is_none());
/// assert_eq!(decode_plain::<u64>(&mut result)?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RawFunction(&'static Registration);

impl RawFunction {
    /// Finds the function of this [`ID`](ProcessFn::ID) in the executable.
    pub fn find(id: &str) -> Option<Self> {
        registry::find(id).map(Self)
    }

    /// Runs the function in this process, with the arguments in bytes from
    /// [`encode_arguments`](Call::encode_arguments).
    ///
    /// If the function returns a value without descriptors of `most` bytes at most, this appends
    /// the value to `result` and returns `None`. The content of `arguments` is unspecified
    /// afterwards.
    #[inline]
    pub fn run_bytes(
        &self,
        arguments: &mut [u8],
        result: &mut Vec<u8>,
        most: usize,
        large: Option<&LargeMessages>,
    ) -> Option<Outcome> {
        self.0.run_onto(Arguments::Bytes(arguments), result, most, large)
    }

    /// Runs a function `fn(Option<V>, A) -> (Option<V>, R)`, for code that keeps a `V` encoded: the
    /// old value, the argument, the new value and the result are messages of their own.
    ///
    /// # Errors
    ///
    /// The outcome says why there is no result. It says so as well if the function has another
    /// form.
    pub fn change(&self, old: Option<Message>, argument: Message) -> Result<(Option<Message>, Message), Outcome> {
        self.0.change(old, argument)
    }

    /// Does the same as [`run_bytes`](Self::run_bytes) with arguments in a message.
    pub fn run_message(
        &self,
        arguments: Message,
        result: &mut Vec<u8>,
        most: usize,
        large: Option<&LargeMessages>,
    ) -> Option<Outcome> {
        self.0.run_onto(Arguments::Message(arguments), result, most, large)
    }
}
