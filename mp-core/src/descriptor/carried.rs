//! A value that is sent as its descriptor.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fd;

/// Sends something that owns a descriptor as a value: an argument, a result or a message, or a part
/// of one.
///
/// `T` is a `File`, `TcpStream`, `UnixStream`, `OwnedFd` or any other type that is `AsFd +
/// From<OwnedFd>`. It does what the attribute [`mp_core::fd`](mod@fd) does for a field, but
/// anywhere in a value: a parameter can be an `Fd<File>`, an `Option<Fd<File>>` or a
/// `Vec<Fd<TcpStream>>`.
///
/// The receiver gets its own descriptor of the same open file, with a shared position. The sender's
/// stays open until the value is dropped. Nothing checks the kind of the file: a receiver that does
/// not trust the sender has to.
///
/// # Errors
///
/// Encoding fails outside of a message between processes, and if this process has no free
/// descriptor.
///
/// # Process death
///
/// If every process that could receive a message dies, the kernel closes the descriptors in it.
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Seek, Write};
///
/// use mp_core::{Fd, process_fn};
///
/// #[process_fn]
/// fn greet(mut log: Fd<File>, others: Vec<Fd<File>>) -> Option<Fd<File>> {
///     log.write_all(b"hello from the child").unwrap();
///     others.into_iter().next()
/// }
///
/// let file = tempfile::tempfile()?;
/// let others = vec![Fd(file.try_clone()?)];
/// let mut back = greet::spawn(Fd(file), others)?.join()?.unwrap().into_inner();
///
/// let mut text = String::new();
/// back.rewind()?;
/// back.read_to_string(&mut text)?;
/// assert_eq!(text, "hello from the child");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fd<T>(
    /// The value that owns the descriptor.
    pub T,
);

impl<T> Fd<T> {
    /// Returns the value that owns the descriptor.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Fd<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Fd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Fd<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsFd> AsFd for Fd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> Serialize for Fd<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fd::serialize(&self.0, serializer)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Fd<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fd::deserialize(deserializer).map(Self)
    }
}
