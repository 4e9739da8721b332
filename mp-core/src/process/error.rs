//! Why a process could not be started, or gave no value.

use std::io;

use crate::codec::{DecodeError, EncodeError};
use crate::exit_status::ExitStatus;
use crate::outcome::Panic;
use crate::registry::DuplicateFunction;

/// Why a process could not be started. There is none then, and nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// This process was not asked whether it is a child, so its children would not be either.
    #[error("this process cannot start processes: {}", crate::boot::CALL_INIT)]
    NotInitialized,
    /// Two functions of the executable have the same name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateFunction),
    /// The function is not registered, which `#[process_fn]` would have done.
    #[error("no function is registered under the name `{name}`: annotate it with `#[process_fn]`")]
    Unregistered {
        /// The name that was looked for.
        name: &'static str,
    },
    /// The arguments cannot be encoded, or are longer than [`message_limit`](crate::message_limit).
    #[error("the arguments could not be encoded")]
    Encode(#[source] EncodeError),
    /// A name, a variable of the environment or a path holds a NUL byte, or a variable's name is
    /// empty or holds `=`.
    #[error("{what} cannot be passed to a process: {value:?}")]
    InvalidInput {
        /// What is wrong.
        what: &'static str,
        /// Its value.
        value: std::ffi::OsString,
    },
    /// The working directory, a resource limit, the processors or the niceness that were asked for
    /// cannot be had.
    #[error("the process could not be given {setting}")]
    Setting {
        /// What was to be set.
        setting: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused, for lack of processes, descriptors or memory for example.
    #[error("the process could not be started: {action} failed")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SpawnError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// A [`SpawnError`] goes through `?` in a function that returns [`io::Result`].
impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> Self {
        let kind = match &error {
            SpawnError::Io { source, .. } | SpawnError::Setting { source, .. } => source.kind(),
            SpawnError::Encode(_) | SpawnError::InvalidInput { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Why a process gave no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The function panicked. The process exited with code 1.
    #[error("the function {0}")]
    Panicked(Panic),
    /// The process ended before the function had returned: it was killed, crashed, or called
    /// `exit`.
    ///
    /// Why is often on its standard error, where Rust says that memory ran out or that the stack
    /// overflowed before it aborts: [`join_with_output`](super::Process::join_with_output) brings
    /// that.
    #[error("the process ended with {0} before its function returned")]
    Exited(ExitStatus),
    /// The arguments could not be decoded in the child, in which case the function did not run, or
    /// the result not here.
    #[error("a value could not be decoded")]
    Decode(#[source] DecodeError),
    /// The function returned a value that cannot be encoded.
    #[error("the result could not be encoded")]
    Encode(#[source] EncodeError),
    /// The process started, but the function did not: what the child says about it, or how it ended
    /// before it could.
    #[error("the process did not start its function: {0}")]
    NotStarted(String),
    /// The result was already taken, by an earlier [`join_timeout`](super::Process::join_timeout).
    #[error("the result of the process was already taken")]
    AlreadyJoined,
    /// The operating system refused to wait.
    #[error("waiting for the process failed")]
    Io(#[source] io::Error),
}
