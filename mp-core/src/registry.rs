//! The functions of this executable, by name.
//!
//! Registrations are collected by the linker into one slice, so there is nothing to run for them
//! and nothing to forget. The index over the slice is made at the first look-up and never changes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use linkme::distributed_slice;

use crate::function::ProcessFn;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::panic;

/// Every function of the executable that carries the attribute.
#[distributed_slice]
pub static FUNCTIONS: [Registration];

/// One function: what the attribute puts into `FUNCTIONS`.
#[derive(Debug)]
pub struct Registration {
    name: &'static str,
    place: Place,
    run: fn(Message) -> Outcome,
}

/// Where a function stands in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: &'static str,
    line: u32,
    column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Registration {
    /// Describes the function `F`, which stands at the given place.
    pub const fn of<F: ProcessFn>(file: &'static str, line: u32, column: u32) -> Self {
        Self { name: F::NAME, place: Place { file, line, column }, run: run::<F> }
    }

    /// Runs the function.
    pub(crate) fn run(&self, arguments: Message) -> Outcome {
        (self.run)(arguments)
    }
}

/// All that is generic about running a function.
fn run<F: ProcessFn>(arguments: Message) -> Outcome {
    // The panic crosses no borrow that anyone looks at afterwards: arguments and result are gone
    // with it.
    let result = catch_unwind(AssertUnwindSafe(|| {
        panic::call_as_first_frame(|| {
            let arguments = match arguments.decode() {
                Ok(arguments) => arguments,
                Err(error) => return Outcome::UndecodableArguments(error),
            };
            match Message::encode(&F::invoke(arguments)) {
                Ok(message) => Outcome::Returned(message),
                Err(error) => Outcome::UnencodableResult(error),
            }
        })
    }));
    result.unwrap_or_else(|payload| Outcome::Panicked(panic::describe(payload)))
}

/// Two functions have the same name, so that a child could not tell which one is meant.
///
/// Functions inside function bodies share the path of their module. `#[process_fn(name = "..")]`
/// names them apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "two functions are registered under the name `{name}`, at {first} and at {second}: give one of them another with `#[process_fn(name = \"..\")]`"
)]
pub struct DuplicateFunction {
    name: &'static str,
    first: Place,
    second: Place,
}

impl DuplicateFunction {
    /// Returns the name that both have.
    pub fn name(&self) -> &str {
        self.name
    }
}

struct Index {
    /// Sorted by name, and those of the same name in the order of the linker.
    functions: Vec<&'static Registration>,
    duplicate: Option<DuplicateFunction>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    // A child looks up one name, mostly: sorting what is nearly sorted costs less than hashing all
    // of it.
    INDEX.get_or_init(|| {
        let mut functions: Vec<_> = FUNCTIONS.iter().collect();
        functions.sort_by_key(|function| function.name);
        let duplicate = functions.windows(2).find_map(|pair| {
            let [first, second] = pair else { return None };
            let (name, first, second_place) = (first.name, first.place, second.place);
            (name == second.name).then_some(DuplicateFunction { name, first, second: second_place })
        });
        Index { functions, duplicate }
    })
}

/// Finds a function.
pub(crate) fn find(name: &str) -> Option<&'static Registration> {
    let functions = &index().functions;
    let place = functions.binary_search_by_key(&name, |function| function.name).ok()?;
    Some(functions[place])
}

/// Says whether every name is unique.
pub(crate) fn check() -> Result<(), DuplicateFunction> {
    index().duplicate.clone().map_or(Ok(()), Err)
}
