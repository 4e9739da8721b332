//! The functions of this executable, by ID.
//!
//! The linker collects the registrations in one slice, so no code has to run to register a
//! function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use mp_macros::versioned_slice;
use serde::de::DeserializeOwned;

use crate::codec::DecodeError;
use crate::function::ProcessFn;
use crate::large::LargeMessages;
use crate::message::{Message, decode_plain, pair};
use crate::outcome::Outcome;
use crate::panic;

/// Every function of the executable that has the attribute.
#[versioned_slice]
pub static FUNCTIONS: [Registration];

/// Every function of the executable that has the attribute `on_start`.
#[versioned_slice]
pub static START_HOOKS: [StartHook];

/// A function that runs when a child starts.
#[derive(Debug)]
pub struct StartHook {
    name: &'static str,
    run: fn(),
}

impl StartHook {
    /// Describes the function, whose path is `name`.
    pub const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, run }
    }
}

/// Runs the hooks, in the order of their names. The first that panics ends that.
pub(crate) fn run_start_hooks() -> Result<(), Outcome> {
    let mut hooks: Vec<_> = START_HOOKS.iter().collect();
    hooks.sort_by_key(|hook| hook.name);
    for hook in hooks {
        catch_unwind(|| panic::call_as_first_frame(hook.run))
            .map_err(|payload| Outcome::Panicked(panic::describe(payload, hook.name)))?;
    }
    Ok(())
}

/// One function: the attribute puts one into `FUNCTIONS`.
#[derive(Debug)]
pub struct Registration {
    name: &'static str,
    id: &'static str,
    place: &'static str,
    run: fn(Arguments<'_>, &mut Vec<u8>, usize, Option<&LargeMessages>) -> Option<Outcome>,
    change: fn(Option<Message>, Message) -> Result<Change, Outcome>,
}

/// What a function that changes a value returned: the new value, and its result.
pub(crate) type Change = (Option<Message>, Message);

/// Encoded arguments.
pub(crate) enum Arguments<'a> {
    Message(Message),
    /// Without descriptors.
    Bytes(&'a mut [u8]),
}

impl Arguments<'_> {
    fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        match self {
            Self::Message(message) => message.decode(),
            Self::Bytes(bytes) => decode_plain(bytes),
        }
    }
}

impl Registration {
    /// Describes the function `F`, which is at the given place in the source.
    pub const fn of<F: ProcessFn>(place: &'static str) -> Self {
        Self { name: F::NAME, id: F::ID, place, run: run::<F>, change: change::<F> }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the function.
    pub(crate) fn run(&self, arguments: Message) -> Outcome {
        // Only a value without bytes is short enough to be appended.
        let outcome = (self.run)(Arguments::Message(arguments), &mut Vec::new(), 0, None);
        outcome.unwrap_or_else(|| Outcome::Returned(Message::empty()))
    }

    /// Runs the function on a value and an argument that are messages of their own.
    pub(crate) fn change(&self, old: Option<Message>, argument: Message) -> Result<Change, Outcome> {
        (self.change)(old, argument)
    }

    /// Runs the function. If it returns a value that takes at most `most` bytes and contains no
    /// descriptors, the value is appended to `result`, and there is no outcome.
    #[inline]
    pub(crate) fn run_onto(
        &self,
        arguments: Arguments<'_>,
        result: &mut Vec<u8>,
        most: usize,
        large: Option<&LargeMessages>,
    ) -> Option<Outcome> {
        (self.run)(arguments, result, most, large)
    }
}

/// Does the same to a function that takes `(Option<V>, A)` and returns `(Option<V>, R)`, whose
/// values are messages of their own.
fn change<F: ProcessFn>(old: Option<Message>, argument: Message) -> Result<Change, Outcome> {
    // As in `run`.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        panic::call_as_first_frame(|| {
            let arguments = pair::decode(old, argument).map_err(Outcome::UndecodableArguments)?;
            pair::encode(&F::invoke(arguments)).map_err(Outcome::UnencodableResult)
        })
    }));
    outcome.unwrap_or_else(|payload| Err(Outcome::Panicked(panic::describe(payload, F::NAME))))
}

/// Decodes the arguments, runs the function and encodes its result, and catches its panic.
fn run<F: ProcessFn>(
    arguments: Arguments<'_>,
    result: &mut Vec<u8>,
    most: usize,
    large: Option<&LargeMessages>,
) -> Option<Outcome> {
    // Unwinding drops the arguments, and whoever catches a panic drops the result, so no code sees
    // them in a broken state.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        panic::call_as_first_frame(|| {
            let arguments = match arguments.decode() {
                Ok(arguments) => arguments,
                Err(error) => return Some(Outcome::UndecodableArguments(error.about(&quoted::<F>()))),
            };
            match Message::append(&F::invoke(arguments), result, most, large) {
                Ok(message) => message.map(Outcome::Returned),
                Err(error) => Some(Outcome::UnencodableResult(error.about(&quoted::<F>()))),
            }
        })
    }));
    outcome.unwrap_or_else(|payload| Some(Outcome::Panicked(panic::describe(payload, F::NAME))))
}

/// Returns the name of `F` for an error's text.
pub(crate) fn quoted<F: ProcessFn>() -> String {
    format!("`{}`", F::NAME)
}

/// Two functions have the same name from `#[process_fn(name = "..")]`, or one macro makes both in
/// the same place, so a child could not tell which one to run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "two functions are registered under the name `{name}`, at {first} and at {second}: give one of them another with `#[process_fn(name = \"..\")]`"
)]
pub struct DuplicateFunction {
    name: &'static str,
    first: &'static str,
    second: &'static str,
}

impl DuplicateFunction {
    /// Returns the name of both functions.
    pub fn name(&self) -> &str {
        self.name
    }
}

/// Finds a function.
pub(crate) fn find(id: &str) -> Option<&'static Registration> {
    // Most processes look up a few names. Comparing lengths first, this looks at few of them.
    FUNCTIONS.iter().find(|function| function.id == id)
}

/// Checks, once, that every ID is unique.
pub(crate) fn check() -> Result<(), DuplicateFunction> {
    static DUPLICATE: OnceLock<Option<DuplicateFunction>> = OnceLock::new();
    let duplicate = DUPLICATE.get_or_init(|| {
        let mut functions: Vec<_> = FUNCTIONS.iter().collect();
        // Functions of the same ID stay in the order of the linker.
        functions.sort_by_key(|function| function.id);
        let twice = functions.windows(2).find(|pair| pair[0].id == pair[1].id)?;
        Some(DuplicateFunction { name: twice[0].name, first: twice[0].place, second: twice[1].place })
    });
    duplicate.clone().map_or(Ok(()), Err)
}
