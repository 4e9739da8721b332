//! Sending and receiving one message.
//!
//! A stream has no message boundaries, so a message that is given up in the middle would mix with
//! the next one. A [`Transfer`] therefore closes the connection if it is dropped in the middle of a
//! message: after a deadline, after an error of the operating system, or with a future that is
//! dropped.
//!
//! 1. Nothing after a message is read, so the descriptor is readable when the next message, or more
//!    of a refused one, has arrived.
//! 2. Memory is allocated for twice the bytes that have arrived and a little more, never for the
//!    length that the peer announced.
//! 3. The next call skips a message that was refused for its length. That call can be given up at
//!    any time.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;

use mp_core::message_limit;

use crate::sys::stream;
use crate::waits::Waits;
use crate::{ByteConnection, RecvError, SendError};

/// The greatest length that a header of 4 bytes holds.
const SHORT: u64 = 0x7fff_ffff;

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;

struct Transfer<'a> {
    connection: &'a mut ByteConnection,
    /// Whether a part of a message was sent or received, and a part was not.
    is_halfway: bool,
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if self.is_halfway {
            self.connection.is_closed = true;
            // An error means that the connection has already ended.
            let _ = stream::shutdown(self.connection.as_fd(), Shutdown::Both);
        }
    }
}

/// Receives a message of `limit` bytes at most. Returns `None` if none has begun to arrive before
/// the deadline.
pub(crate) async fn receive(
    connection: &mut ByteConnection,
    limit: u64,
    waits: &Waits,
) -> Result<Option<Vec<u8>>, RecvError> {
    let Some((mut message, length)) = begin(connection, limit, waits).await? else { return Ok(None) };
    message.body(length, waits).await.map(Some)
}

/// Receives a message into the beginning of `buffer`, and returns its length, or `None` if none has
/// begun to arrive before the deadline.
pub(crate) async fn receive_into(
    connection: &mut ByteConnection,
    buffer: &mut [u8],
    limit: u64,
    waits: &Waits,
) -> Result<Option<usize>, RecvError> {
    let Some((mut message, length)) = begin(connection, limit, waits).await? else { return Ok(None) };
    let Some(place) = buffer.get_mut(..length) else {
        return Err(RecvError::BufferTooShort(message.body(length, waits).await?));
    };
    message.fill(place, waits).await?;
    message.is_halfway = false;
    Ok(Some(length))
}

/// Receives the header of the next message. Returns `None` if nothing of it has arrived before the
/// deadline.
async fn begin<'a>(
    connection: &'a mut ByteConnection,
    limit: u64,
    waits: &Waits,
) -> Result<Option<(Transfer<'a>, usize)>, RecvError> {
    if connection.is_closed {
        return Err(RecvError::Closed);
    }
    if !skip(connection, waits).await? {
        return Ok(None);
    }
    let mut header = [0; 4];
    let arrived = match read(connection, &mut header, waits).await? {
        None => return Ok(None),
        Some(0) => return Err(RecvError::Disconnected),
        Some(arrived) => arrived,
    };
    let mut message = Transfer { connection, is_halfway: true };
    message.fill(&mut header[arrived..], waits).await?;
    let announced = match i32::from_be_bytes(header) {
        -1 => {
            let mut long = [0; 8];
            message.fill(&mut long, waits).await?;
            u64::from_be_bytes(long)
        }
        short => u64::try_from(short).map_err(|_| RecvError::Malformed("its length is negative"))?,
    };
    match usize::try_from(announced) {
        Ok(length) if announced <= limit.min(isize::MAX as u64) => Ok(Some((message, length))),
        _ => {
            message.skip(announced);
            Err(RecvError::TooLarge { length: announced, limit })
        }
    }
}

/// Skips the rest of refused messages. Returns false if not all of it has arrived before the
/// deadline.
async fn skip(connection: &mut ByteConnection, waits: &Waits) -> Result<bool, RecvError> {
    let mut skipped = Vec::new();
    while connection.skip > 0 {
        skipped.resize(CHUNK.min(usize::try_from(connection.skip).unwrap_or(CHUNK)), 0);
        match read(connection, &mut skipped, waits).await? {
            None => return Ok(false),
            Some(0) => {
                connection.skip = 0;
                return Err(RecvError::Truncated);
            }
            Some(count) => connection.skip -= count as u64,
        }
        // A peer that sends all the time must not delay this side beyond its deadline.
        if connection.skip > 0 && waits.is_over() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits for bytes, and reads them into the beginning of `buffer`. Returns 0 at the end, and `None`
/// at the deadline.
async fn read(connection: &ByteConnection, buffer: &mut [u8], waits: &Waits) -> Result<Option<usize>, RecvError> {
    loop {
        match stream::receive(connection.as_fd(), buffer) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !waits.readable(&connection.socket).await.map_err(RecvError::Io)? {
                    return Ok(None);
                }
            }
            // The peer was closed before it had read everything, which is an end as well.
            Err(error) if is_end(&error) => return Ok(Some(0)),
            Err(error) => return Err(RecvError::Io(error)),
        }
    }
}

impl Transfer<'_> {
    /// Fills `buffer` with the next part of the message.
    async fn fill(&mut self, buffer: &mut [u8], waits: &Waits) -> Result<(), RecvError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match read(self.connection, &mut buffer[filled..], waits).await? {
                None => return Err(RecvError::Closed),
                Some(0) => {
                    // No message follows that could be mixed up, and the peer may still receive
                    // what this side sends.
                    self.is_halfway = false;
                    return Err(RecvError::Truncated);
                }
                Some(count) => filled += count,
            }
        }
        Ok(())
    }

    /// Receives the message without its header.
    async fn body(&mut self, length: usize, waits: &Waits) -> Result<Vec<u8>, RecvError> {
        let mut body = Vec::new();
        while body.len() < length {
            let (arrived, missing) = (body.len(), length - body.len());
            if arrived == body.capacity() && body.try_reserve_exact(missing.min(arrived.max(CHUNK))).is_err() {
                self.skip(missing as u64);
                return Err(RecvError::Io(ErrorKind::OutOfMemory.into()));
            }
            body.resize(arrived + missing.min(CHUNK).min(body.capacity() - arrived), 0);
            self.fill(&mut body[arrived..], waits).await?;
        }
        self.is_halfway = false;
        Ok(body)
    }

    /// Refuses the rest of the message.
    fn skip(&mut self, rest: u64) {
        self.connection.skip = rest;
        self.is_halfway = false;
    }
}

/// Sends a message, and returns an error if it could not be sent whole in time.
pub(crate) async fn send(connection: &mut ByteConnection, body: &[u8], waits: &Waits) -> Result<(), SendError> {
    if connection.is_closed {
        return Err(SendError::Closed);
    }
    let (length, limit) = (body.len() as u64, message_limit());
    if length > limit {
        return Err(SendError::TooLarge { length, limit });
    }
    let (header, used) = header(length);
    let mut parts = [IoSlice::new(&header[..used]), IoSlice::new(body)];
    let mut parts = &mut parts[..];
    let mut message = Transfer { connection, is_halfway: false };
    while !parts.is_empty() {
        match stream::send(message.connection.as_fd(), parts) {
            Ok(sent) => {
                message.is_halfway = true;
                IoSlice::advance_slices(&mut parts, sent);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !waits.writable(&message.connection.socket).await.map_err(SendError::Io)? {
                    return Err(if message.is_halfway { SendError::Closed } else { SendError::TimedOut });
                }
            }
            Err(error) if is_end(&error) => {
                // The peer receives nothing more, but what it sent may still arrive.
                message.is_halfway = false;
                return Err(SendError::Disconnected);
            }
            Err(error) => return Err(SendError::Io(error)),
        }
    }
    message.is_halfway = false;
    Ok(())
}

/// Returns the header of a message of this length, and how many of the bytes it has.
fn header(length: u64) -> ([u8; 12], usize) {
    let mut header = [0xff; 12];
    match u32::try_from(length) {
        Ok(short) if length <= SHORT => {
            header[..4].copy_from_slice(&short.to_be_bytes());
            (header, 4)
        }
        _ => {
            header[4..].copy_from_slice(&length.to_be_bytes());
            (header, 12)
        }
    }
}

/// Tells whether an error means that the peer is closed.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_cpython() {
        // `struct.pack("!i", n)`, and from 2^31 on `struct.pack("!i", -1) + struct.pack("!Q", n)`.
        let header = |length| {
            let (bytes, used) = header(length);
            bytes[..used].to_vec()
        };
        assert_eq!(header(0), [0, 0, 0, 0]);
        assert_eq!(header(0x0102), [0, 0, 1, 2]);
        assert_eq!(header(0x7fff_ffff), [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(header(0x8000_0000), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(header(0x1_0000_0002), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
}
