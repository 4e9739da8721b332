//! Why a pool could not be made, and why a task gave no value.

use std::io;
use std::time::Duration;

use mp_core::raw::{CallError, Within, error_chain};
use mp_core::{DecodeError, EncodeError, ExitStatus, Panic, SpawnError};

/// Why a pool could not be made. No worker of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no workers was asked for.
    #[error("a pool needs at least one worker")]
    NoWorkers,
    /// The arguments of the initializer could not be encoded.
    #[error("the initializer could not be encoded: {0}")]
    Encode(EncodeError),
    /// A worker could not be started.
    #[error("a worker could not be started: {0}")]
    Spawn(SpawnError),
    /// There was no thread or no descriptor for the pool itself.
    #[error("the pool could not be set up: {0}")]
    Io(io::Error),
}

/// Why a task gave no value. It concerns this task only; the pool goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function panicked. Its worker goes on with the next task.
    ///
    /// In a program that is built with `panic = "abort"` a panic ends the worker, which is
    /// replaced.
    #[error("{0}")]
    Panicked(Panic),
    /// The worker ended while it was running the task: it was killed, crashed, or called `exit`.
    ///
    /// A worker that dies before it has begun the task does not count: another one runs it. Only a
    /// task with descriptors in its arguments, of which no second copy is kept, is lost with the
    /// worker that they were sent to.
    #[error("worker '{worker}' ended with {status} while it ran `{function}`, {}", attempts_text(*attempts))]
    Crashed {
        /// How the last worker ended.
        status: ExitStatus,
        /// How many workers ended running this task: one more than it was run again, which
        /// [`retries`](crate::PoolBuilder::retries) allows.
        attempts: u32,
        /// The name of the last worker.
        worker: String,
        /// The name of the function.
        function: &'static str,
    },
    /// The worker was lost with its host, in a pool over several hosts. It may have begun the task,
    /// or may have run all of it: nobody can tell.
    ///
    /// A worker is sent up to 6 ms of tasks at once, so more than one task may fail with it.
    #[error(
        "worker '{worker}' was lost with its host and may have begun `{function}`, {}", attempts_text(*attempts)
    )]
    NodeLost {
        /// How many workers ended that may have begun this task, as in [`Crashed`](Self::Crashed).
        attempts: u32,
        /// The name of the last worker, with its host.
        worker: String,
        /// The name of the function.
        function: &'static str,
    },
    /// The task ran for longer than it may, and was killed with its worker:
    /// [`PoolBuilder::task_timeout`](crate::PoolBuilder::task_timeout),
    /// [`TaskOptions::timeout`](crate::TaskOptions::timeout).
    #[error("`{function}` ran for longer than {limit:?} in worker '{worker}' and was killed")]
    TimedOut {
        /// How long it was allowed to run.
        limit: Duration,
        /// The name of the worker.
        worker: String,
        /// The name of the function.
        function: &'static str,
    },
    /// The worker had more memory than it may while it ran the task, and was killed:
    /// [`PoolBuilder::memory_limit`](crate::PoolBuilder::memory_limit).
    #[error(
        "worker '{worker}' had {used} bytes of memory, more than the limit of {limit}, while it ran `{function}`, and was killed"
    )]
    OutOfMemory {
        /// How many bytes were resident.
        used: u64,
        /// How many may be.
        limit: u64,
        /// The name of the worker.
        worker: String,
        /// The name of the function.
        function: &'static str,
    },
    /// The task was [cancelled](crate::Task::cancel).
    #[error("the task was cancelled")]
    Cancelled,
    /// The worker has sent what no worker sends, while it ran the task, and was killed. Something
    /// in the task writes to descriptors or memory that are not its own.
    #[error("worker '{worker}' broke the pool's protocol while it ran `{function}`, and was killed")]
    Misbehaved {
        /// The name of the worker.
        worker: String,
        /// The name of the function.
        function: &'static str,
    },
    /// The initializer failed in one worker after another; this is what the last one said. The pool
    /// takes no more tasks.
    #[error("no worker could be initialized: {0}")]
    Initializer(String),
    /// This process is a copy, made by `fork`, of the one that has the pool.
    #[error("the pool belongs to the process that this one was forked from")]
    Forked,
    /// The arguments, or the value that the function returned, could not be encoded; the error says
    /// which.
    #[error("a value of the task could not be encoded: {0}")]
    Encode(EncodeError),
    /// The arguments, or the value that the function returned, could not be decoded; the error says
    /// which.
    #[error("a value of the task could not be decoded: {0}")]
    Decode(DecodeError),
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
    #[error("the pool is closed")]
    PoolClosed,
    /// Workers die before they can do anything, or cannot be started; this is what was said about
    /// the last one.
    #[error("no worker can be started: {0}")]
    NoWorker(String),
    /// The value was already taken.
    #[error("the value of the task was already taken")]
    AlreadyJoined,
}

fn attempts_text(attempts: u32) -> String {
    match attempts {
        1 => "which was not tried again".to_owned(),
        more => format!("at the last of {more} attempts"),
    }
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
            other => Self::NotReceived(error_chain(&other)),
        }
    }
}
