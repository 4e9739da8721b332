//! `Process`: a child that can be joined.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::JoinError;
use super::child::{Answer, Child, ControlSocket};
use super::children::ChildInfo;
use super::output::Reading;
use super::record::Record;
use super::stdio::Pipes;
use crate::boot::{CALL_INIT, REFUSED, Report};
use crate::codec::DecodeError;
use crate::exit_status::ExitStatus;
use crate::message::Message;
use crate::outcome::{CallError, Outcome, Panic};
use crate::sys::credentials;
use crate::sys::poll::Deadline;

/// A process that runs a function, and that can be joined for the function's value.
///
/// `f::spawn(..)` and [`Builder::spawn`](super::Builder::spawn) return it.
///
/// Dropping it detaches the process, which runs on and still dies with this process. Its value is
/// lost. The next spawn in this process reaps it. With
/// [`kill_on_drop`](super::Builder::kill_on_drop), dropping it kills the process.
///
/// # Process death
///
/// If the process dies, joining it returns an error at once. If its parent dies, the kernel kills
/// it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_core::{ExitStatus, JoinError, process_fn};
///
/// #[process_fn]
/// fn sleep_forever() {
///     loop {
///         std::thread::park();
///     }
/// }
///
/// let mut process = sleep_forever::spawn()?;
/// assert!(process.join_timeout(Duration::from_millis(10))?.is_none());
/// process.kill()?;
/// let Err(JoinError::Exited(status)) = process.join() else { panic!("it was killed") };
/// assert_eq!(status, ExitStatus::Signal { signal: 9, core_dumped: false });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it detaches the process, which dies with this one; `detach` says so on purpose"]
pub struct Process<T> {
    pub(super) child: Child,
    pub(super) control_socket: ControlSocket,
    pub(super) pipes: Pipes,
    pub(super) reading: Reading,
    pub(super) joined: bool,
    value: PhantomData<fn() -> T>,
}

impl<T> Process<T> {
    pub(super) fn new(child: Child, control_socket: ControlSocket, pipes: Pipes) -> Self {
        Self { child, control_socket, pipes, reading: Reading::default(), joined: false, value: PhantomData }
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns the name of the process, which [`current`](crate::current()) returns inside it.
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// Tells whether the process has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none() && self.child.runs()
    }

    /// Tells whether the process has ended, so that [`join`](Self::join) does not wait.
    pub fn is_finished(&self) -> bool {
        !self.is_alive()
    }

    /// Returns how the process ended, or `None` while it runs.
    ///
    /// Before Linux 6.15, a [`ForkServer`](super::ForkServer) reports how its processes ended.
    /// While it is stopped, this returns `None` for a process that has ended, after a tenth of a
    /// second. It does the same while a debugger holds a process of a fork server that has ended.
    ///
    /// Once it has ended, the sentinel is the only descriptor that is left of it, besides those
    /// that its value contains.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let status = self.child.exit_status();
        if status.is_some() && self.child.is_of_this_process() {
            self.control_socket.close();
        }
        status
    }

    /// Sends SIGINT. Does nothing to a process that has ended.
    ///
    /// # Errors
    ///
    /// Fails if the process changed its user and this process may no longer signal it.
    pub fn interrupt(&self) -> io::Result<()> {
        self.child.signal(Signal::INT)
    }

    /// Sends SIGTERM, which a process can handle. Does nothing to a process that has ended.
    ///
    /// # Errors
    ///
    /// As [`interrupt`](Self::interrupt).
    pub fn terminate(&self) -> io::Result<()> {
        self.child.signal(Signal::TERM)
    }

    /// Sends SIGKILL, which a process cannot handle or ignore. Does nothing to a process that has
    /// ended.
    ///
    /// # Errors
    ///
    /// As [`interrupt`](Self::interrupt).
    pub fn kill(&self) -> io::Result<()> {
        self.child.signal(Signal::KILL)
    }

    /// Returns a description of the process, through which another thread can watch and signal it
    /// while this one joins it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use mp_core::process_fn;
    ///
    /// #[process_fn]
    /// fn sleep_forever() {
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// let process = sleep_forever::spawn()?;
    /// let info = process.info();
    /// let joining = thread::spawn(move || process.join());
    /// info.kill()?;
    /// assert!(joining.join().unwrap().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn info(&self) -> ChildInfo {
        self.child.info()
    }

    /// Lets the process run on, even if it was started with
    /// [`kill_on_drop`](super::Builder::kill_on_drop).
    pub fn detach(mut self) {
        self.child.kill_on_drop = false;
    }

    /// Takes the pipe to the process's standard input, if it has one from
    /// [`Stdio::piped`](super::Stdio::piped).
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.pipes.stdin.take()
    }

    /// Takes the pipe from the process's standard output, if it has one from
    /// [`Stdio::piped`](super::Stdio::piped).
    ///
    /// Read it to its end before you join: a pipe holds 64 KiB, and a process that prints more
    /// waits for a reader. If both streams are pipes, read them on two threads, because the process
    /// may fill either one first. [`join_with_output`](Self::join_with_output) does all of this.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.pipes.stdout.take()
    }

    /// Takes the pipe from the process's standard error, if it has one from
    /// [`Stdio::piped`](super::Stdio::piped). Read it as described for
    /// [`take_stdout`](Self::take_stdout).
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.pipes.stderr.take()
    }
}

impl<T: DeserializeOwned> Process<T> {
    /// Waits until the process has ended, and returns the value of its function.
    ///
    /// It first closes the pipe to the standard input of the process, unless that was taken, so
    /// that a process that reads to the end of its input can end. It does not read the pipes from
    /// standard output and error. If one of them is full, at 64 KiB, the process waits for a reader
    /// while this call waits for the process: a deadlock. Read them first, or use
    /// [`join_with_output`](Self::join_with_output).
    ///
    /// # Errors
    ///
    /// [`JoinError`] says why there is no value. If the function returns `()`, a process that calls
    /// `exit(0)` counts as a success.
    pub fn join(mut self) -> Result<T, JoinError> {
        self.pipes.stdin = None;
        // Without a deadline there is always an end.
        self.join_until(Deadline::NEVER)?.ok_or(JoinError::AlreadyJoined)
    }

    /// Waits until the process has ended, for `timeout` at most. `None` means that it still runs;
    /// the call can be repeated.
    ///
    /// A zero timeout does not wait. Unlike [`join`](Self::join), it does not close the pipe to the
    /// standard input of the process. It returns the value once. Later calls return
    /// [`JoinError::AlreadyJoined`], as they do after any error except [`JoinError::Io`], after
    /// which the call can be repeated.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<T>, JoinError> {
        self.join_until(Deadline::after(timeout))
    }

    /// Fails if the result was taken, or is for another process.
    pub(super) fn check_joinable(&self) -> Result<(), JoinError> {
        if !self.child.is_of_this_process() {
            return Err(JoinError::Forked);
        }
        if self.joined { Err(JoinError::AlreadyJoined) } else { Ok(()) }
    }

    pub(super) fn join_until(&mut self, deadline: Deadline) -> Result<Option<T>, JoinError> {
        self.check_joinable()?;
        match self.control_socket.wait(&self.child, deadline).map_err(JoinError::Io)? {
            None => Ok(None),
            Some((answer, status)) => {
                self.joined = true;
                conclude(&self.child, answer, status).map(Some)
            }
        }
    }
}

/// Turns the answer and the status into a result. A value counts even if the process crashed after
/// it sent the value.
pub(super) fn conclude<T: DeserializeOwned>(
    child: &Record,
    answer: Option<Answer>,
    status: ExitStatus,
) -> Result<T, JoinError> {
    match answer {
        Some(Answer::Report(Report::Outcome(outcome))) => value(child, outcome),
        Some(Answer::Report(Report::NotStarted(why))) => Err(not_started(child, &why)),
        Some(Answer::Report(Report::Forked { .. } | Report::NotForked { .. })) => {
            Err(not_started(child, "it reported its start a second time"))
        }
        Some(Answer::Malformed(error)) => {
            Err(JoinError::Decode(DecodeError::new(error.to_string()).about(&of(child, "report"))))
        }
        Some(Answer::NoReport { unread: true }) => match why_unread(status) {
            Some(why) => {
                Err(not_started(child, &format!("it ended with {status} before it read its start message: {why}")))
            }
            None => Err(JoinError::Exited(status)),
        },
        Some(Answer::NoReport { unread: false }) | None => match status {
            // `exit(0)` is a success if no bytes decode as a value of the type, as they do for
            // `()`.
            ExitStatus::Code(0) => Message::empty().decode().map_err(|_| JoinError::Exited(status)),
            _ => Err(JoinError::Exited(status)),
        },
    }
}

/// Why a process may have ended before it read its start message. `None` if another process may
/// have killed it.
fn why_unread(status: ExitStatus) -> Option<&'static str> {
    match status {
        ExitStatus::Code(LOADER_FAILED) => Some("it could not be loaded, for lack of memory or of a library"),
        // The child has the executable that this process has.
        ExitStatus::Code(REFUSED) if credentials::is_privileged() => Some(PRIVILEGED),
        ExitStatus::Code(REFUSED) => Some("it refused to be a child, and its standard error says why"),
        ExitStatus::Code(_) => Some(CALL_INIT),
        ExitStatus::Signal {
            signal: libc::SIGSEGV | libc::SIGBUS | libc::SIGABRT | libc::SIGILL | libc::SIGSYS,
            ..
        } => Some("a resource limit may be too low for it to begin, or something that runs before `main` crashes"),
        ExitStatus::Signal { .. } | ExitStatus::Unknown => None,
    }
}

/// Why a child of a process whose executable has file capabilities refuses to be one.
const PRIVILEGED: &str = "the set-user-ID bit or the file capabilities of its executable give it privileges that \
    its caller does not have, so it trusts no caller: let children run an executable without them, which \
    `Builder::program` names";

/// The exit code of the C library's loader if it cannot load a program.
const LOADER_FAILED: i32 = 127;

fn value<T: DeserializeOwned>(child: &Record, outcome: Outcome) -> Result<T, JoinError> {
    outcome.decode().map_err(|error| of_call(child, error))
}

/// Why a call of a child that did not return has no value.
pub(super) fn failure(child: &Record, outcome: Outcome) -> JoinError {
    // What it returned is not asked for.
    outcome.decode::<()>().map_or_else(|error| of_call(child, error), |()| JoinError::AlreadyJoined)
}

fn of_call(child: &Record, error: CallError) -> JoinError {
    match error {
        // The child's word for it is not needed, and may be missing.
        CallError::Panicked(panic) => {
            JoinError::Panicked(Panic { process: child.name.clone(), ..panic }.of(child.function))
        }
        CallError::UndecodableArguments(error) => JoinError::Decode(error.about(&of(child, "arguments"))),
        CallError::UndecodableResult(error) => {
            JoinError::Decode(error.about(&format!("`{}`", child.function)).about(&of(child, "result")))
        }
        CallError::UnencodableResult(error) => JoinError::Encode(error.about(&of(child, "result"))),
        error @ CallError::UnknownFunction(_) => not_started(child, &error.to_string()),
    }
}

fn not_started(child: &Record, why: &str) -> JoinError {
    JoinError::NotStarted(format!("process '{}' did not start `{}`: {why}", child.name, child.function))
}

/// Names something of a child.
fn of(child: &Record, what: &str) -> String {
    format!("{what} of process '{}'", child.name)
}

/// The sentinel: readable once the process has ended.
impl<T> AsFd for Process<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.child.describe(f, "Process")
    }
}
