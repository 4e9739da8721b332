//! Why a call gave no value, and why a server could not be started.

use std::io;

use mp_core::raw::Outcome;
use mp_core::{DecodeError, EncodeError, JoinError, Panic, SpawnError};
use serde::{Deserialize, Serialize};

/// Why a call of an object gave no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The function panicked in the server. The object is as it was before the call, except after
    /// a method of a type of your own that takes `&mut self`: see [`Poisoned`](Self::Poisoned).
    #[error("{0}")]
    Panicked(Panic),
    /// A method that takes `&mut self` panicked in an earlier call, and may have left the object
    /// half-changed. `clear_poison` of the proxy lets it be used again.
    #[error("the object is poisoned by a panic of an earlier call")]
    Poisoned,
    /// No function of this name is registered in the executable.
    #[error("no function is registered under the name `{0}`")]
    UnknownFunction(String),
    /// Two types are registered under this name: give one of them another with
    /// `#[shared(name = "..")]`.
    #[error("two types are registered under the name `{0}`")]
    DuplicateType(String),
    /// An argument or a result could not be encoded. If it was an argument, nothing was sent. If it
    /// was the result of a method of a type of your own, the method has had its effect.
    #[error("a value of the call could not be encoded: {0}")]
    Encode(EncodeError),
    /// An argument or a result could not be decoded. If it was an argument, the object is
    /// unchanged.
    #[error("a value of the call could not be decoded: {0}")]
    Decode(DecodeError),
    /// The server has no such object, or no object was published under this name.
    #[error("the server has no such object")]
    NoSuchObject,
    /// The object is of another type than the proxy.
    #[error("the object is a `{found}`, and a `{expected}` was expected")]
    WrongType {
        /// The type of the proxy.
        expected: String,
        /// The type of the object.
        found: String,
    },
    /// The index is not below the length of the list.
    #[error("the index {index} is not below the length {length}")]
    OutOfBounds {
        /// The index.
        index: u64,
        /// The length of the list at the time of the call.
        length: u64,
    },
    /// A barrier was aborted or reset, one of its waiters gave up or died, or it is broken since.
    #[error("the barrier is broken")]
    BrokenBarrier,
    /// A condition can be used only with its lock held, and the server has taken the lock back, as
    /// it does when the connection ends.
    #[error("the lock of the condition is not held")]
    NotHeld,
    /// More permits were released than the semaphore may have.
    #[error("more permits were released than the semaphore may have")]
    TooManyPermits,
    /// A call that was given to a pool in the server has no result: its worker died, or could not
    /// be started.
    #[error("the task failed: {0}")]
    Task(String),
    /// The server or this process has too little of something: descriptors, memory, threads, or
    /// room for waiting calls. The text says which. If it says that the answer was not sent or not
    /// received, the call has had its effect; otherwise the object is unchanged.
    #[error("too little was available for the call: {0}")]
    Busy(String),
    /// The deadline passed. A call that was sent may still have its effect.
    #[error("the call was not answered before its deadline")]
    TimedOut,
    /// The server has ended, or has closed the connection. The call is not sent again by itself.
    #[error("the server is gone{}", sent_text(*sent))]
    Disconnected {
        /// Whether the call was sent, so that it may have had its effect.
        sent: bool,
    },
    /// This process is a copy, made by `fork`, of the one that received the proxy.
    #[error("the proxy belongs to the process that this one was forked from")]
    Forked,
}

fn sent_text(sent: bool) -> &'static str {
    if sent { "; the call was sent, and may have had its effect" } else { "; the call was not sent" }
}

impl CallError {
    /// What a function's outcome says when there is no result.
    pub(crate) fn from_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Panicked(panic) => Self::Panicked(panic),
            Outcome::UnknownFunction(name) => Self::UnknownFunction(name),
            Outcome::UndecodableArguments(error) => Self::Decode(error),
            Outcome::UnencodableResult(error) => Self::Encode(error),
            other => Self::Busy(format!("a function ended in a way that is not known here: {other:?}")),
        }
    }

    /// Names the function that has panicked.
    pub(crate) fn within(mut self, function: &str) -> Self {
        if let Self::Panicked(panic) = &mut self {
            function.clone_into(&mut panic.function);
        }
        self
    }
}

/// Why a manager could not be made. No server is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The process of the server could not be started.
    #[error("the server could not be started: {0}")]
    Spawn(SpawnError),
    /// The server ended before it served anything; the text says how. An initializer that fails
    /// ends it.
    #[error("the server did not start to serve: {0}")]
    Start(JoinError),
    /// The initializer could not be encoded.
    #[error("the initializer could not be encoded: {0}")]
    Encode(EncodeError),
    /// A descriptor or a thread for the server was not available.
    #[error("the server could not be set up: {0}")]
    Io(io::Error),
}

impl From<SpawnError> for ManagerError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

impl From<io::Error> for ManagerError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Lets `?` convert a [`ManagerError`] in a function that returns [`io::Result`].
impl From<ManagerError> for io::Error {
    fn from(error: ManagerError) -> Self {
        match error {
            ManagerError::Io(error) => error,
            ManagerError::Spawn(error) => error.into(),
            other => Self::other(other),
        }
    }
}
