//! The result of a call: the value, or how the call failed.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, EncodeError};
use crate::current;
use crate::message::Message;

/// A panic in another process.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panic {
    /// The panic's message, or `Box<dyn Any>` if the payload is not text.
    pub message: String,
    /// Where it panicked, as `file:line:column`. `None` if the function replaced the panic hook or
    /// resumed a panic.
    pub location: Option<String>,
    /// The backtrace as text, if the child's environment asks for one (`RUST_BACKTRACE`,
    /// `RUST_LIB_BACKTRACE`). It goes from the place of the panic to the child's function, or with
    /// `full` over the whole stack. `Debug` shows only how many lines it has.
    pub backtrace: Option<String>,
    /// The name of the process that panicked.
    pub process: String,
    /// The name of the function that the process ran. Empty if that is not known.
    pub function: String,
}

impl Panic {
    /// A panic of this process.
    pub(crate) fn new(message: String, location: Option<String>, backtrace: Option<String>) -> Self {
        Self { message, location, backtrace, process: current::name().to_owned(), function: String::new() }
    }

    /// Says which function panicked.
    pub(crate) fn of(mut self, function: &str) -> Self {
        self.function = function.to_owned();
        self
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.function.is_empty() {
            write!(f, "`{}` in ", self.function)?;
        }
        write!(f, "process '{}' panicked", self.process)?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Shows the number of the backtrace's lines instead of the backtrace, which is too long for one
/// line and which the process printed.
impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.backtrace.as_ref().map(|backtrace| backtrace.lines().count());
        let mut panic = f.debug_struct("Panic");
        panic.field("message", &self.message).field("location", &self.location);
        panic.field("process", &self.process).field("function", &self.function);
        match lines {
            Some(lines) => panic.field("backtrace", &format_args!("Some({lines} lines)")),
            None => panic.field("backtrace", &None::<String>),
        };
        panic.finish()
    }
}

impl std::error::Error for Panic {}

/// The result of a call whose process reported it: the value, still encoded, or how the call
/// failed.
///
/// [`EncodedCall::run`](crate::raw::EncodedCall::run) returns it. It is itself a value that can be
/// sent, so a scheduler can pass it on without knowing the type inside.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The function returned this value.
    Returned(Message),
    /// The function panicked.
    Panicked(Panic),
    /// No function of this name is registered in the executable.
    UnknownFunction(String),
    /// The arguments could not be decoded, so the function did not run.
    UndecodableArguments(DecodeError),
    /// The function returned a value that cannot be encoded.
    UnencodableResult(EncodeError),
}

impl Outcome {
    /// Decodes the value, or returns why there is none.
    ///
    /// # Errors
    ///
    /// Any [`CallError`].
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, CallError> {
        match self {
            Self::Returned(message) => message.decode().map_err(CallError::UndecodableResult),
            Self::Panicked(panic) => Err(CallError::Panicked(panic)),
            Self::UnknownFunction(name) => Err(CallError::UnknownFunction(name)),
            Self::UndecodableArguments(error) => Err(CallError::UndecodableArguments(error)),
            Self::UnencodableResult(error) => Err(CallError::UnencodableResult(error)),
        }
    }
}

/// Why a call whose process reported its outcome returned no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The function panicked.
    #[error("{0}")]
    Panicked(Panic),
    /// No function of this name is registered in the executable.
    #[error("no function is registered under the name `{0}`")]
    UnknownFunction(String),
    /// The process could not decode the arguments, so the function did not run.
    #[error("the arguments could not be decoded: {0}")]
    UndecodableArguments(DecodeError),
    /// The process could not encode the value that the function returned.
    #[error("the result could not be encoded: {0}")]
    UnencodableResult(EncodeError),
    /// This process could not decode the value that the function returned.
    #[error("the result could not be decoded: {0}")]
    UndecodableResult(DecodeError),
}
