//! Joining a process and reading what it prints.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;

use super::{JoinError, Process};
use crate::sys::poll::{self, Deadline};
use crate::wait::wait;

/// What a process printed: see [`Process::join_with_output`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What it wrote to its standard output, if that was piped and not taken; otherwise nothing.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, if that was piped and not taken; otherwise nothing.
    pub stderr: Vec<u8>,
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
        let mut output = Output::default();
        let stdout = self.pipes.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = self.pipes.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        self.pipes.stdin = None;
        let read = read_all([(stdout, &mut output.stdout), (stderr, &mut output.stderr)], self.as_fd());
        let result = read.map_err(JoinError::Io).and_then(|()| self.join());
        (result, output)
    }
}

/// Reads each pipe to its end, or to what is in it when `process` has ended.
fn read_all(mut pipes: [(Option<File>, &mut Vec<u8>); 2], process: BorrowedFd<'_>) -> io::Result<()> {
    while pipes.iter().any(|(pipe, _)| pipe.is_some()) {
        let open = pipes.iter().filter_map(|(pipe, _)| pipe.as_ref()).map(|pipe| pipe as &dyn AsFd);
        wait(&open.chain([&process as &dyn AsFd]).collect::<Vec<_>>(), None)?;
        // Asked before reading: if the process has ended, the pipes hold all that it printed.
        let ended = poll::readable(process, Deadline::PASSED)?;
        for (pipe, text) in &mut pipes {
            let Some(open) = pipe else { continue };
            if !ended && !poll::readable(open.as_fd(), Deadline::PASSED)? {
                continue;
            }
            // A pipe that is readable and empty is at its end.
            if !read_some(open, text)? || ended {
                *pipe = None;
            }
        }
    }
    Ok(())
}

/// Reads what is in a pipe now, without waiting, and tells whether that was anything.
fn read_some(pipe: &File, text: &mut Vec<u8>) -> io::Result<bool> {
    // No one else reads from this pipe, so at least this many bytes stay available.
    let there = rustix::io::ioctl_fionread(pipe)?;
    text.try_reserve(usize::try_from(there).unwrap_or(usize::MAX))?;
    pipe.take(there).read_to_end(text)?;
    Ok(there > 0)
}
