//! The process at the other end of what is measured.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mp_core::{Process, SpawnError};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

/// A descriptor as a value.
#[derive(Serialize, Deserialize)]
pub struct Handle(#[serde(with = "mp_core::fd")] pub OwnedFd);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A process, and the channels by whose end it knows that it is no longer needed.
pub struct Partner<C> {
    /// Taken when it is over.
    channels: Option<C>,
    process: Option<Process<()>>,
}

impl<C> Partner<C> {
    pub fn new(channels: C, process: Result<Process<()>, SpawnError>) -> io::Result<Self> {
        Ok(Self { channels: Some(channels), process: Some(process?) })
    }

    pub fn channels(&mut self) -> io::Result<&mut C> {
        self.channels.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<C> Drop for Partner<C> {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(Err(error)) = self.process.take().map(Process::join) {
            eprintln!("a partner came to harm: {error}");
        }
    }
}

/// A pair of unix sockets.
pub fn sockets(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Writes all of it, as a stream may take it piece by piece.
pub fn write_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(&socket, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Fills the buffer; false is the end.
pub fn read_all(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&socket, &mut buffer[filled..])? {
            0 => return Ok(false),
            count => filled += count,
        }
    }
    Ok(true)
}

/// Why a channel of a library did not work.
pub fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
