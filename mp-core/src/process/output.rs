//! Joining a process and reading what it prints.

#[cfg(feature = "async")]
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(feature = "async")]
use std::pin::Pin;
#[cfg(feature = "async")]
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde::de::DeserializeOwned;

#[cfg(feature = "async")]
use super::handle::conclude;
use super::{JoinError, Process};
use crate::pollable::PollableFd;
use crate::sys::poll::{self, Deadline};

/// What a process printed: see [`Process::join_with_output`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What it wrote to its standard output, if that was piped and not taken; otherwise nothing.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, if that was piped and not taken; otherwise nothing.
    pub stderr: Vec<u8>,
}

/// The pipes that are being read, and what was read from them.
#[derive(Debug, Default)]
pub(super) struct Reading {
    stdout: Option<PollableFd>,
    stderr: Option<PollableFd>,
    output: Output,
}

impl<T: DeserializeOwned> Process<T> {
    /// Waits until the process has ended, and returns the value of its function and what it
    /// printed. The output is returned even if there is no value.
    ///
    /// While it waits it reads both streams that are [`Stdio::piped`](super::Stdio::piped), so a
    /// full pipe does not block the process. It keeps all output in memory. It stops reading when
    /// the process has ended, even if a program that the process started still prints to the same
    /// pipe. It first closes the pipe to the standard input of the process, unless that was taken.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join). [`JoinError::Io`] is also the error if there is no memory for the
    /// output; the process is detached then.
    ///
    /// # Process death
    ///
    /// The output contains what the process printed before it died.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{Builder, Stdio, process_fn};
    ///
    /// #[process_fn]
    /// fn greet() -> u32 {
    ///     println!("hello");
    ///     std::process::abort()
    /// }
    ///
    /// let builder = Builder::new().stdout(Stdio::piped()).stderr(Stdio::piped());
    /// # let builder = builder.rlimit(mp_core::Resource::CoreSize, 0, 0);
    /// let (result, output) = builder.spawn(greet::call())?.join_with_output();
    /// assert!(result.is_err());
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_with_output(mut self) -> (Result<T, JoinError>, Output) {
        // Without a deadline there is always an end.
        self.join_with_output_until(Deadline::NEVER).unwrap_or((Err(JoinError::AlreadyJoined), Output::default()))
    }

    /// Does the same as [`join_with_output`](Self::join_with_output), for `timeout` at most. `None`
    /// means that the process still runs. What it printed so far is kept, and a later call returns
    /// it with the rest.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_core::{Builder, Stdio, process_fn};
    ///
    /// #[process_fn]
    /// fn hang() {
    ///     println!("so far");
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// let mut process = Builder::new().stdout(Stdio::piped()).spawn(hang::call())?;
    /// let (result, output) = match process.join_with_output_timeout(Duration::from_millis(200)) {
    ///     Some(ended) => ended,
    ///     None => {
    ///         process.kill()?;
    ///         process.join_with_output()
    ///     }
    /// };
    /// assert!(result.is_err());
    /// assert_eq!(output.stdout, b"so far\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_with_output_timeout(&mut self, timeout: Duration) -> Option<(Result<T, JoinError>, Output)> {
        self.join_with_output_until(Deadline::after(timeout))
    }

    fn join_with_output_until(&mut self, deadline: Deadline) -> Option<(Result<T, JoinError>, Output)> {
        if let Err(error) = self.check_joinable() {
            return Some((Err(error), Output::default()));
        }
        self.begin_reading();
        let result = match self.read_until(deadline) {
            Ok(()) => self.join_until(deadline).transpose()?,
            Err(error) => Err(JoinError::Io(error)),
        };
        Some((result, mem::take(&mut self.reading.output)))
    }

    /// Reads until each pipe is at its end or the process has ended, or until the deadline.
    fn read_until(&mut self, deadline: Deadline) -> io::Result<()> {
        loop {
            // Asked before reading: if the process has ended, the pipes hold all that it printed.
            let ended = poll::readable(self.as_fd(), Deadline::PASSED)?;
            self.reading.read()?;
            if ended {
                return Ok(());
            }
            let mut fds = vec![PollFd::new(&*self.child, PollFlags::IN)];
            fds.extend(self.reading.pipes().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            if fds.len() == 1 || poll::wait(&mut fds, deadline)? == 0 {
                return Ok(());
            }
        }
    }

    /// Does the same as [`join_with_output`](Self::join_with_output); the future waits without a
    /// thread, on any executor (feature `async`).
    ///
    /// Dropping the future loses nothing: what the process printed so far is kept, and a later call
    /// returns it with the rest. So a timeout of the executor can stand around it.
    ///
    /// # Errors
    ///
    /// As [`join_with_output`](Self::join_with_output). A later call returns
    /// [`JoinError::AlreadyJoined`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_core::{Builder, Stdio, process_fn};
    ///
    /// #[process_fn]
    /// fn hang() {
    ///     println!("so far");
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    /// # runtime.block_on(async {
    /// let mut process = Builder::new().stdout(Stdio::piped()).spawn(hang::call())?;
    /// let limit = Duration::from_millis(200);
    /// if tokio::time::timeout(limit, process.join_with_output_async()).await.is_err() {
    ///     process.kill()?;
    /// }
    /// let (result, output) = process.join_with_output_async().await;
    /// assert!(result.is_err());
    /// assert_eq!(output.stdout, b"so far\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn join_with_output_async(&mut self) -> (Result<T, JoinError>, Output) {
        if let Err(error) = self.check_joinable() {
            return (Err(error), Output::default());
        }
        self.begin_reading();
        let result = self.read_and_join().await;
        (result, mem::take(&mut self.reading.output))
    }

    #[cfg(feature = "async")]
    async fn read_and_join(&mut self) -> Result<T, JoinError> {
        loop {
            let end = self.control_socket.try_wait(&self.child).map_err(JoinError::Io)?;
            self.reading.read().map_err(JoinError::Io)?;
            if let Some((answer, status)) = end {
                self.joined = true;
                return conclude(&self.child, answer, status);
            }
            let mut waits = vec![self.child.pidfd.readable()];
            waits.extend(self.reading.pipes().map(PollableFd::readable));
            let ready = poll_fn(|context| {
                let ready = waits.iter_mut().map(|wait| Pin::new(wait).poll(context)).find(Poll::is_ready);
                ready.unwrap_or(Poll::Pending)
            });
            ready.await.map_err(JoinError::Io)?;
        }
    }
}

impl<T> Process<T> {
    fn begin_reading(&mut self) {
        self.pipes.stdin = None;
        if let Some(pipe) = self.pipes.stdout.take() {
            self.reading.stdout = Some(PollableFd::new(OwnedFd::from(pipe)));
        }
        if let Some(pipe) = self.pipes.stderr.take() {
            self.reading.stderr = Some(PollableFd::new(OwnedFd::from(pipe)));
        }
    }
}

impl Reading {
    fn pipes(&self) -> impl Iterator<Item = &PollableFd> {
        [&self.stdout, &self.stderr].into_iter().flatten()
    }

    /// Reads what is in the pipes now, without waiting, and closes those that are at their end.
    fn read(&mut self) -> io::Result<()> {
        for (pipe, text) in [(&mut self.stdout, &mut self.output.stdout), (&mut self.stderr, &mut self.output.stderr)] {
            let Some(open) = pipe else { continue };
            // A pipe that is readable and empty is at its end.
            if poll::readable(open.as_fd(), Deadline::PASSED)? && !read_some(open, text)? {
                *pipe = None;
            }
        }
        Ok(())
    }
}

/// Reads what is in a pipe now, without waiting, and tells whether that was anything.
fn read_some(pipe: &PollableFd, text: &mut Vec<u8>) -> io::Result<bool> {
    // No one else reads from this pipe, so at least this many bytes stay available.
    let there = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(usize::MAX);
    text.try_reserve(there)?;
    let start = text.len();
    text.resize(start + there, 0);
    let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut text[start..]));
    text.truncate(start + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}
