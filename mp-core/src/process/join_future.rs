//! Joining a process from a task.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use super::handle::conclude;
use super::{JoinError, Process};
use crate::reactor::Readiness;

/// A future that waits until a process has ended and returns the value of its function (feature
/// `async`).
///
/// Awaiting a [`Process`] makes one. It works on any executor and uses no thread of its own. The
/// thread that polls it decodes the value.
///
/// Dropping the future detaches the process, as dropping the [`Process`] does. To kill the process
/// instead, keep the future, await it by reference, and use [`process`](Self::process).
///
/// # Process death
///
/// As for [`Process::join`]: if the process dies, the future returns an error at once.
///
/// # Examples
///
/// ```
/// use std::future::IntoFuture;
/// use std::time::Duration;
///
/// use mp_core::{JoinError, process_fn};
///
/// #[process_fn]
/// fn sleep_forever() {
///     loop {
///         std::thread::park();
///     }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let mut joining = sleep_forever::spawn()?.into_future();
/// if tokio::time::timeout(Duration::from_millis(10), &mut joining).await.is_err() {
///     joining.process().kill()?;
/// }
/// assert!(matches!(joining.await, Err(JoinError::Exited(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "futures do nothing unless polled, and dropping this one detaches the process"]
pub struct JoinFuture<T> {
    process: Process<T>,
    /// Waits for the end of the process.
    ended: Option<Readiness>,
}

impl<T> JoinFuture<T> {
    /// Returns the process.
    pub fn process(&self) -> &Process<T> {
        &self.process
    }

    /// Stops waiting and returns the process. If the future was ready, joining it is an error.
    pub fn into_process(self) -> Process<T> {
        self.process
    }
}

impl<T: DeserializeOwned> Future for JoinFuture<T> {
    type Output = Result<T, JoinError>;

    /// After it was ready, it returns [`JoinError::AlreadyJoined`].
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { process, ended } = self.get_mut();
        process.check_joinable()?;
        loop {
            if let Some((answer, status)) = process.control_socket.try_wait(&process.child).map_err(JoinError::Io)? {
                process.joined = true;
                *ended = None;
                return Poll::Ready(conclude(&process.child, answer, status));
            }
            let sentinel = ended.get_or_insert_with(|| process.child.pidfd.readable());
            if Pin::new(sentinel).poll(context).map_err(JoinError::Io)?.is_pending() {
                return Poll::Pending;
            }
            *ended = None;
        }
    }
}

/// Awaiting a process joins it. As [`join`](Process::join) does, it first closes the pipe to the
/// standard input of the process, unless that was taken.
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
/// pollster::block_on(async {
///     let (one, other) = (add::spawn(1, 2)?, add::spawn(3, 4)?);
///     assert_eq!(one.await? + other.await?, 10);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })
/// # .unwrap();
/// ```
impl<T: DeserializeOwned> IntoFuture for Process<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(mut self) -> JoinFuture<T> {
        self.pipes.stdin = None;
        JoinFuture { process: self, ended: None }
    }
}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinFuture").field("process", &self.process).finish_non_exhaustive()
    }
}
