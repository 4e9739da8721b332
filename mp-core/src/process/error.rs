//! Why a process could not be started, or returned no value.

use std::io;
use std::time::Duration;

use crate::codec::{DecodeError, EncodeError};
use crate::exit_status::ExitStatus;
use crate::outcome::Panic;
use crate::registry::DuplicateFunction;

/// Why a process could not be started. No process exists after this error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// This process ran neither the constructor of `auto-init` nor [`init`](crate::init), so its
    /// children would not run them either.
    #[error("this process cannot start processes: {}", crate::boot::CALL_INIT)]
    NotInitialized,
    /// Two functions of the executable have the same name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateFunction),
    /// The real and the effective user or group of this process differ, as between `seteuid` and
    /// its undoing. The kernel would start a child as a privileged program, which must not trust
    /// its caller.
    #[error(
        "the real and the effective user or group of this process differ, and a child would not trust it: start processes before `seteuid` or `setegid`, or change both with `setresuid` and `setresgid`"
    )]
    MixedUsers,
    /// This code is in a library that a program of another kind has loaded. A child would run the
    /// `main` of that program.
    #[error(
        "the functions are in the library {library:?}, and the program that has loaded it would run its own `main` in a child: name a program that contains the functions with `Builder::program`, or call `mp_core::init()` in the first line of the program's `main`"
    )]
    Library {
        /// The path of the library.
        library: String,
    },
    /// This program was started through the loader, and its file was deleted since then.
    #[error("this program was started through the loader, and its file is gone: {program:?}")]
    ProgramGone {
        /// The path that the file had.
        program: String,
    },
    /// The function is not registered. `#[process_fn]` registers it.
    #[error("no function is registered under the name `{name}`: annotate it with `#[process_fn]`")]
    Unregistered {
        /// The name of the function.
        name: &'static str,
    },
    /// The arguments cannot be encoded, or are longer than [`message_limit`](crate::message_limit).
    #[error("the arguments could not be encoded: {0}")]
    Encode(EncodeError),
    /// A name, an environment variable or a path contains a NUL byte, or the name of a variable is
    /// empty or contains `=`.
    #[error("{what} cannot be passed to a process: {value:?}")]
    InvalidInput {
        /// What is not valid.
        what: &'static str,
        /// Its value.
        value: std::ffi::OsString,
    },
    /// The working directory, a resource limit, the processors or the niceness could not be set.
    #[error("the process could not be given {setting}: {}", .r#source)]
    Setting {
        /// The setting and its value.
        setting: String,
        /// The error of the operating system.
        r#source: io::Error,
    },
    /// The fork server has ended, with this status, so it can make no process.
    #[error("the fork server has ended with {0}")]
    ForkServerGone(ExitStatus),
    /// The fork server had ended, and could not be started again.
    #[error("the fork server had ended, and could not be started again: {0}")]
    ForkServer(Box<ForkServerError>),
    /// The operating system failed, for example for lack of processes, descriptors or memory.
    #[error("the process could not be started: {action} failed: {}", .r#source)]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The error of the operating system.
        r#source: io::Error,
    },
}

impl SpawnError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Lets `?` convert a [`SpawnError`] in a function that returns [`io::Result`].
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

/// Why a fork server could not be started. No process of it exists after this error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkServerError {
    /// The process of the server could not be started.
    #[error("the fork server could not be started: {0}")]
    Spawn(SpawnError),
    /// The arguments of a preloaded function, or of one that each copy calls, cannot be encoded.
    #[error("a call of the fork server could not be encoded: {0}")]
    Encode(EncodeError),
    /// A preloaded function panicked, or the server ended while it ran.
    #[error("the preload of the fork server failed: {0}")]
    Preload(JoinError),
    /// The preload has left threads running. A copy would not have them, and would wait in vain for
    /// what they hold.
    #[error("the preload of the fork server has left threads running: {}", .0.join(", "))]
    Threads(
        /// Their names.
        Vec<String>,
    ),
    /// The preload has left files open that all copies would share by accident: sockets, pipes,
    /// buffers, or files that are open to be written. Open them in a function that each copy calls
    /// ([`after_fork`](super::ForkServerBuilder::after_fork)).
    #[error("the preload of the fork server has left files open that its copies would share: {}", .0.join(", "))]
    Descriptors(
        /// Their paths, or what they are.
        Vec<String>,
    ),
    /// The children of the process that starts the server, or of the server after its preload, are
    /// in another PID namespace than the process itself, for example after `unshare`. The first of
    /// them would be the init process of the namespace, and their process IDs would be others. Set
    /// the namespace up in a child, and start the server there.
    #[error("a fork server cannot have processes in another PID namespace than its owner's")]
    Namespace,
    /// The preload took longer than
    /// [`preload_timeout`](super::ForkServerBuilder::preload_timeout). The server was killed.
    #[error("the preload of the fork server took longer than {0:?}")]
    TimedOut(
        /// The timeout.
        Duration,
    ),
}

/// Why a process returned no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The function panicked. The process exited with code 1.
    #[error("{0}")]
    Panicked(Panic),
    /// The process ended and sent no result: it was killed, crashed, or called `exit`. If its
    /// function closed the descriptor for the result, as helpers for daemons do, the process says
    /// so on its standard error.
    ///
    /// Its standard error often says why: Rust prints there that memory ran out or the stack
    /// overflowed before it aborts. [`join_with_output`](super::Process::join_with_output) returns
    /// that text.
    #[error("the process ended with {0} and sent no result")]
    Exited(ExitStatus),
    /// The child could not decode the arguments, so the function did not run, or this process could
    /// not decode the result.
    #[error("a value could not be decoded: {0}")]
    Decode(DecodeError),
    /// The function returned a value that cannot be encoded.
    #[error("the result could not be encoded: {0}")]
    Encode(EncodeError),
    /// The process started, but its function did not. The text names both, and says what the child
    /// gave as its reason, or how it ended.
    #[error("{0}")]
    NotStarted(String),
    /// The result was already taken, by an earlier [`join_timeout`](super::Process::join_timeout).
    #[error("the result of the process was already taken")]
    AlreadyJoined,
    /// This process is a copy, made by `fork`, of the one that started the process. Only that one
    /// can join it.
    #[error("the process belongs to the process that this one was forked from")]
    Forked,
    /// Waiting failed in the operating system.
    #[error("waiting for the process failed: {0}")]
    Io(io::Error),
}
