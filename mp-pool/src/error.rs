//! Why a pool could not be made, and why a task gave no value.

use std::io;

use mp_core::raw::{CallError, Within};
// The text of an error with its causes.
pub(crate) use mp_core::raw::error_chain as with_causes;
use mp_core::{DecodeError, EncodeError, ExitStatus, Panic, SpawnError};

/// Why a pool could not be made. No worker of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no workers was asked for.
    #[error("a pool needs at least one worker")]
    NoWorkers,
    /// A worker could not be started.
    #[error("a worker could not be started")]
    Spawn(#[source] SpawnError),
    /// A thread or a descriptor for the pool itself could not be had.
    #[error("the pool could not be set up")]
    Io(#[source] io::Error),
}

/// Why a task gave no value. It concerns this task only; the pool goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function panicked. Its worker goes on with the next task.
    ///
    /// In a program that is built with `panic = "abort"` a panic ends the worker:
    /// [`Crashed`](Self::Crashed).
    #[error("the task {0}")]
    Panicked(Panic),
    /// The worker ended while it was running the task: it was killed, crashed, or called `exit`.
    ///
    /// A worker that is killed while it is idle, within microseconds of being handed the task,
    /// counts as well: it may have taken the task in and not begun it.
    #[error("the worker ended with {status} while it ran the task")]
    Crashed {
        /// How the worker ended.
        status: ExitStatus,
        /// How many workers ended running this task.
        attempts: u32,
    },
    /// The arguments, or the value that the function returned, could not be encoded; the error says
    /// which.
    #[error("a value of the task could not be encoded")]
    Encode(#[source] EncodeError),
    /// The arguments, or the value that the function returned, could not be decoded; the error says
    /// which.
    #[error("a value of the task could not be decoded")]
    Decode(#[source] DecodeError),
    /// The task could not be sent to a worker: no descriptor was free for its handles, or no
    /// memory.
    #[error("the task could not be sent to a worker: {0}")]
    NotSent(String),
    /// The result of the task did not arrive: no descriptor was free for its handles, or it is
    /// longer than [`message_limit`](mp_core::message_limit).
    #[error("the result of the task could not be received: {0}")]
    NotReceived(String),
    /// No function is registered under the name of the task.
    #[error("no function is registered under the name `{0}`")]
    UnknownFunction(String),
    /// The pool was closed before the task was submitted, or ended before the task was done.
    #[error("the pool is closed and takes no more tasks")]
    PoolClosed,
    /// Workers die before they can do anything, or cannot be started; this is what was said about
    /// the last one.
    #[error("no worker can be started: {0}")]
    NoWorker(String),
    /// The value was already taken.
    #[error("the value of the task was already taken")]
    AlreadyJoined,
}

/// Which value of a task could not be encoded or decoded, in the text of [`EncodeError`] and
/// [`DecodeError`].
pub(crate) const ARGUMENTS: &str = "arguments";
pub(crate) const RESULT: &str = "result";

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Panicked(panic) => Self::Panicked(panic),
            CallError::UnknownFunction(name) => Self::UnknownFunction(name),
            CallError::UndecodableArguments(error) => Self::Decode(error.within(ARGUMENTS)),
            CallError::UndecodableResult(error) => Self::Decode(error.within(RESULT)),
            CallError::UnencodableResult(error) => Self::Encode(error.within(RESULT)),
            // `CallError` may grow. Whatever it is, there is an outcome without a value.
            other => Self::NotReceived(with_causes(&other)),
        }
    }
}
