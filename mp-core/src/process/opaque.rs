//! Looking inside a `std::process::Stdio`, which only `std::process::Command` can do.
//!
//! So a command is what it is given to: this same executable, which finds the stream open under its number, sends it
//! back over a socket that stands in for another stream, and exits before it has done anything else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use crate::boot::{MARKER, stream_marker_value};
use crate::sys::poll::{Deadline, readable};
use crate::sys::socket::{self, Blocking};

/// The stream that stands for `number` in the child, and the parent's end if it is a pipe.
pub(super) fn unwrap(stream: Stdio, number: usize) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (mine, theirs) = socket::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.env(MARKER, stream_marker_value(number));
    match number {
        0 => command.stdin(stream).stdout(theirs).stderr(Stdio::null()),
        1 => command.stdin(theirs).stdout(stream).stderr(Stdio::null()),
        _ => command.stdin(theirs).stdout(Stdio::null()).stderr(stream),
    };
    let mut helper = command.spawn()?;
    // It holds our end of the socket pair's other half, without which its death would not be seen.
    drop(command);
    let parent = match number {
        0 => helper.stdin.take().map(OwnedFd::from),
        1 => helper.stdout.take().map(OwnedFd::from),
        _ => helper.stderr.take().map(OwnedFd::from),
    };
    let mut received = Vec::new();
    let result = readable(mine.as_fd(), Deadline::NEVER)
        .and_then(|_| socket::receive(mine.as_fd(), &mut [0; 1], &mut received, Blocking::No));
    // Its status says nothing that the socket has not said.
    let _ = helper.wait();
    result?;
    let child = received.pop().ok_or_else(|| io::Error::other("the stream could not be taken out of its `Stdio`"))?;
    Ok((child, parent))
}
