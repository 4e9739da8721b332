//! The standard streams of a child.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use super::SpawnError;
use crate::descriptor::SharedFd;
use crate::sys::fd;

/// What a standard stream of a child is connected to.
///
/// It has the constructors of [`std::process::Stdio`], and converts from files, descriptors and the
/// pipes of other children. std's type cannot serve here because only `std::process::Command` can
/// use it.
///
/// # Examples
///
/// ```
/// use std::io::Read;
///
/// use mp_core::{Builder, Stdio, process_fn};
///
/// #[process_fn]
/// fn greet() {
///     println!("hello");
/// }
///
/// let mut process = Builder::new().stdout(Stdio::piped()).spawn(greet::call())?;
/// let mut text = String::new();
/// process.take_stdout().unwrap().read_to_string(&mut text)?;
/// process.join()?;
/// assert_eq!(text, "hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Stdio(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Inherit,
    Null,
    Piped,
    Fd(OwnedFd),
}

impl Stdio {
    /// Uses the stream of the parent. This is the default.
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// Uses `/dev/null`: reading returns the end of the file, and what is written is discarded.
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// Makes a pipe, whose other end the [`Process`](super::Process) owns.
    ///
    /// A pipe holds 64 KiB. If the parent does not read it, a child that prints more waits, and so
    /// does a parent that joins the child. [`join_with_output`](super::Process::join_with_output)
    /// reads while it joins. After the other end was dropped, printing fails in the child, and
    /// `println!` panics.
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// Tells whether this is the stream of the parent.
    pub fn is_inherited(&self) -> bool {
        matches!(self.0, Kind::Inherit)
    }

    /// Makes another one of these, for one more process.
    ///
    /// # Errors
    ///
    /// Fails for [`piped`](Self::piped), because each process has a pipe of its own, and if this
    /// process has no free descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Kind::Inherit => Kind::Inherit,
            Kind::Null => Kind::Null,
            Kind::Fd(file) => Kind::Fd(fd::duplicate(file.as_fd())?),
            Kind::Piped => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pipe is for one process")),
        }))
    }
}

macro_rules! from_descriptors {
    ($($type:ty),+) => {$(
        /// Uses this open file.
        impl From<$type> for Stdio {
            fn from(file: $type) -> Self {
                Self(Kind::Fd(file.into()))
            }
        }
    )+};
}

from_descriptors!(OwnedFd, File, ChildStdin, ChildStdout, ChildStderr);

/// The parent's ends of the pipes to a child's standard streams.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// The standard streams, ready for the child.
pub(super) struct Streams {
    /// The descriptors that become 0, 1 and 2 in the child; `None` keeps the parent's.
    ends: [Option<OwnedFd>; 3],
    pub(super) pipes: Pipes,
}

impl Streams {
    pub(super) fn open(streams: [Stdio; 3]) -> Result<Self, SpawnError> {
        let [stdin, stdout, stderr] = streams;
        let mut pipes = Pipes::default();
        let stdin = open(stdin, 0, |end| pipes.stdin = Some(end.into()))?;
        let stdout = open(stdout, 1, |end| pipes.stdout = Some(end.into()))?;
        let stderr = open(stderr, 2, |end| pipes.stderr = Some(end.into()))?;
        Ok(Self { ends: [stdin, stdout, stderr], pipes })
    }

    pub(super) fn ends(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.ends.each_ref().map(|end| end.as_ref().map(AsFd::as_fd))
    }

    /// Duplicates the descriptors for a process that cannot inherit them. `None` is a stream that
    /// is closed.
    pub(super) fn for_copy(&self) -> io::Result<[Option<SharedFd>; 3]> {
        let mut streams = [None, None, None];
        for ((number, end), stream) in (0..).zip(&self.ends).zip(&mut streams) {
            let duplicate = match end {
                Some(end) => Some(fd::duplicate(end.as_fd())?),
                None => fd::standard_stream(number)?,
            };
            *stream = duplicate.map(SharedFd::from);
        }
        Ok(streams)
    }
}

/// Opens the child's end of the stream `number`. If the stream is a pipe, `keep` gets the parent's
/// end.
fn open(stream: Stdio, number: usize, keep: impl FnOnce(OwnedFd)) -> Result<Option<OwnedFd>, SpawnError> {
    let opened = match stream.0 {
        Kind::Inherit => return Ok(None),
        Kind::Null => File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from),
        Kind::Fd(fd) => Ok(fd),
        Kind::Piped => fd::pipe().map(|(read, write)| {
            let (child, parent) = if number == 0 { (read, write) } else { (write, read) };
            keep(parent);
            child
        }),
    };
    opened.and_then(fd::above_standard_streams).map(Some).map_err(SpawnError::io("opening a standard stream"))
}
