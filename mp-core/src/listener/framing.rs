//! CPython's frames: messages on a stream that knows only bytes.
//!
//! A message is its length and its bytes. The length is a signed 32-bit number, most significant byte first; one beyond 2^31 - 1 is
//! -1 and an unsigned 64-bit number.
//!
//! | incoming | left by |
//! |---|---|
//! | header: fewer than its 4 or 12 bytes are here | the last of them: to body, to skipping if it is too long, to lost if it is no length |
//! | body: some of the bytes that the header announced | the last of them, when the message is taken: to header |
//! | skipping: the rest of a message that was refused | the last of them: to header |
//! | lost: nothing tells where the next message begins | nothing |
//!
//! 1. Nothing behind the message is read, so that whoever waits for the descriptor is right.
//! 2. Every state can be left alone for any time, and be gone on with.
//! 3. Memory is taken for as much as has arrived, times two, and a little; never for what was announced.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;

use crate::connection::RecvError;
use crate::sys::socket::Blocking;
use crate::sys::stream;

/// The greatest length that a header of 4 bytes holds.
const SHORT: u64 = 0x7fff_ffff;

/// What is read at once while little has arrived, in bytes.
const CHUNK: usize = 64 << 10;

/// The most memory that is kept for the next message, in bytes.
const KEPT: usize = 1 << 20;

/// Why there is no message.
pub(super) enum Interruption {
    /// There is nothing to read now.
    WouldBlock,
    Failed(RecvError),
}

impl From<RecvError> for Interruption {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

/// What has arrived of the next message.
pub(super) struct Incoming {
    header: Vec<u8>,
    /// The message's length, once the header is here.
    length: Option<u64>,
    body: Vec<u8>,
    /// How much of a refused message is still to come.
    skip: u64,
    lost: bool,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { header: Vec::with_capacity(12), length: None, body: Vec::new(), skip: 0, lost: false }
    }

    /// Tells whether it is between two messages.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.header.is_empty() && self.skip == 0 && !self.lost
    }

    /// Reads until the message is here whole, to be looked at by [`body`](Self::body) and ended by [`clear`](Self::clear).
    pub(super) fn read(&mut self, socket: BorrowedFd<'_>, limit: u64, blocking: Blocking) -> Result<(), Interruption> {
        loop {
            if self.lost {
                return Err(RecvError::Malformed("it has no length, and so no end").into());
            }
            if self.skip > 0 {
                self.skip_some(socket, blocking)?;
                continue;
            }
            let Some(length) = self.length else {
                let wanted = if self.header.starts_with(&(-1_i32).to_be_bytes()) { 12 } else { 4 };
                let missing = wanted - self.header.len();
                let at_boundary = self.header.is_empty();
                if read_some(socket, &mut self.header, missing, blocking)? == 0 {
                    self.clear();
                    return Err(if at_boundary { RecvError::Disconnected } else { RecvError::Truncated }.into());
                }
                self.parse(limit)?;
                continue;
            };
            let missing = usize::try_from(length).unwrap_or(usize::MAX) - self.body.len();
            if missing == 0 {
                return Ok(());
            }
            if self.body.len() == self.body.capacity() {
                let more = missing.min(self.body.len().max(CHUNK));
                self.body.try_reserve_exact(more).map_err(|_| RecvError::Io(ErrorKind::OutOfMemory.into()))?;
            }
            if read_some(socket, &mut self.body, missing, blocking)? == 0 {
                self.clear();
                return Err(RecvError::Truncated.into());
            }
        }
    }

    /// Looks whether the header is whole, and what it says.
    fn parse(&mut self, limit: u64) -> Result<(), RecvError> {
        let length = match *self.header.as_slice() {
            [a, b, c, d] => match i32::from_be_bytes([a, b, c, d]) {
                -1 => return Ok(()),
                length => u64::try_from(length).ok(),
            },
            [_, _, _, _, a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => return Ok(()),
        };
        let Some(length) = length else {
            self.lost = true;
            return Err(RecvError::Malformed("its length is negative"));
        };
        if length > limit.min(isize::MAX as u64) {
            self.clear();
            self.skip = length;
            return Err(RecvError::TooLarge { length, limit });
        }
        self.length = Some(length);
        Ok(())
    }

    fn skip_some(&mut self, socket: BorrowedFd<'_>, blocking: Blocking) -> Result<(), Interruption> {
        self.body.clear();
        self.body.try_reserve(CHUNK).map_err(|_| RecvError::Io(ErrorKind::OutOfMemory.into()))?;
        let most = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let skipped = read_some(socket, &mut self.body, most, blocking)?;
        self.body.clear();
        if skipped == 0 {
            self.skip = 0;
            return Err(RecvError::Truncated.into());
        }
        self.skip -= skipped as u64;
        Ok(())
    }

    /// The message, after [`read`](Self::read) has succeeded.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the message out, after [`read`](Self::read) has succeeded.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        let body = std::mem::take(&mut self.body);
        self.clear();
        body
    }

    /// Begins with the next message.
    pub(super) fn clear(&mut self) {
        self.header.clear();
        self.length = None;
        self.body.clear();
        self.body.shrink_to(KEPT);
    }
}

/// Reads what is there, `most` bytes at most and what there is room for; 0 is the end.
fn read_some(
    socket: BorrowedFd<'_>,
    into: &mut Vec<u8>,
    most: usize,
    blocking: Blocking,
) -> Result<usize, Interruption> {
    match stream::receive(socket, into, most, blocking) {
        Ok(received) => Ok(received),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Interruption::WouldBlock),
        // The peer was closed before it had read everything: that is an end as well.
        Err(error) if is_end(&error) => Ok(0),
        Err(error) => Err(RecvError::Io(error).into()),
    }
}

/// Tells whether the peer is gone.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

/// The header of a message of this length, in the first so many bytes.
fn header(length: usize) -> ([u8; 12], usize) {
    let mut header = [0xff; 12];
    let length = length as u64;
    // It fits as soon as it is not greater than SHORT, and is not negative then.
    if let Some(short) = u32::try_from(length).ok().filter(|_| length <= SHORT) {
        header[..4].copy_from_slice(&short.to_be_bytes());
        return (header, 4);
    }
    header[4..].copy_from_slice(&length.to_be_bytes());
    (header, 12)
}

/// A message on its way out.
pub(super) struct Frame<'a> {
    header: [u8; 12],
    header_length: usize,
    body: &'a [u8],
    sent: usize,
}

impl<'a> Frame<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let (header, header_length) = header(body.len());
        Self { header, header_length, body, sent: 0 }
    }

    /// What remains of a message that was begun before.
    pub(super) fn rest(rest: &'a [u8]) -> Self {
        Self { header: [0; 12], header_length: 0, body: rest, sent: 0 }
    }

    /// How many bytes have been sent, those of the header included.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// What has not been sent.
    fn left(&self) -> (&[u8], &'a [u8]) {
        let header = &self.header[..self.header_length];
        match self.sent.checked_sub(self.header_length) {
            Some(sent) => (&[], &self.body[sent..]),
            None => (&header[self.sent..], self.body),
        }
    }

    /// A copy of what has not been sent.
    pub(super) fn to_rest(&self) -> Vec<u8> {
        let (header, body) = self.left();
        [header, body].concat()
    }

    /// Sends until everything is sent, or there is no more room.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, blocking: Blocking) -> io::Result<()> {
        loop {
            let (header, body) = self.left();
            if header.is_empty() && body.is_empty() {
                return Ok(());
            }
            self.sent += stream::send(socket, &[IoSlice::new(header), IoSlice::new(body)], blocking)?;
        }
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
