//! The untyped half of every connection: messages in, messages out.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendErrorReason};
use super::packet::{self, Failure, MAX_INLINE, MAX_PACKET, Packet, Received};
use super::turn::Turn;
use crate::message::{Body, map};
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::Blocking;

/// How long an operation may wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    Forever,
    Until(Deadline),
    None,
}

impl Patience {
    pub(super) fn timeout(timeout: Duration) -> Self {
        if timeout.is_zero() { Self::None } else { Self::Until(Deadline::after(timeout)) }
    }
}

/// One end of a connection. It may be used from several threads, and its socket from several processes.
pub(super) struct Socket {
    fd: OwnedFd,
    turn: Turn,
    /// The peer was closed with something unread.
    unread: AtomicBool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, turn: Turn::new(), unread: AtomicBool::new(false) }
    }

    pub(super) fn send<T: Serialize + ?Sized>(&self, value: &T, patience: Patience) -> Result<(), SendErrorReason> {
        let mut scratch = ENCODING.take();
        scratch.clear();
        let (body, handles) = Body::encode(value, MAX_INLINE, scratch).map_err(SendErrorReason::Encode)?;
        let result = self.send_body(&body, &handles, patience);
        if let Body::Inline(scratch) = body {
            ENCODING.set(scratch);
        }
        result
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendErrorReason> {
        let body = Body::raw(bytes, MAX_INLINE).map_err(SendErrorReason::Encode)?;
        self.send_body(&body, &[], Patience::Forever)
    }

    fn send_body(&self, body: &Body, handles: &[OwnedFd], patience: Patience) -> Result<(), SendErrorReason> {
        match body {
            Body::Inline(_) => self.send_packet(body, handles, None, patience),
            Body::Sealed { .. } => self.send_large(body, handles, patience),
        }
    }

    fn send_large(&self, body: &Body, handles: &[OwnedFd], patience: Patience) -> Result<(), SendErrorReason> {
        let turn = self.turn.take(patience)?;
        let (mine, theirs) = crate::sys::fd::pipe().map_err(SendErrorReason::Io)?;
        self.send_packet(body, handles, Some(theirs.as_fd()), patience)?;
        turn.sent(mine);
        Ok(())
    }

    fn send_packet(
        &self,
        body: &Body,
        handles: &[OwnedFd],
        receipt: Option<BorrowedFd<'_>>,
        patience: Patience,
    ) -> Result<(), SendErrorReason> {
        let blocking = if matches!(patience, Patience::Forever) { Blocking::Yes } else { Blocking::No };
        loop {
            let error = match packet::send(self.fd.as_fd(), body, handles, receipt, blocking) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::ConnectionReset {
                // The kernel says it once, to whoever asks first.
                self.unread.store(true, Ordering::Relaxed);
            }
            match (error.kind(), patience) {
                (io::ErrorKind::WouldBlock, Patience::None) => return Err(SendErrorReason::Full),
                // Someone who shares the socket has made it non-blocking.
                (io::ErrorKind::WouldBlock, Patience::Forever) => {
                    poll::writable(self.fd.as_fd(), Deadline::NEVER).map_err(SendErrorReason::Io)?;
                }
                (io::ErrorKind::WouldBlock, Patience::Until(deadline)) => {
                    if !poll::writable(self.fd.as_fd(), deadline).map_err(SendErrorReason::Io)? {
                        return Err(SendErrorReason::TimedOut);
                    }
                }
                (io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected, _) => {
                    return Err(SendErrorReason::Disconnected);
                }
                _ => return Err(SendErrorReason::Io(error)),
            }
        }
    }

    /// Receives one message and gives it to `take`; `None` if none came in time.
    fn receive<R>(
        &self,
        patience: Patience,
        take: impl FnOnce(Packet, &[u8]) -> Result<R, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let mut buffer = RECEIVING.take();
        if buffer.len() < MAX_PACKET {
            // Once per thread, and zeroed by the allocator, which knows when fresh memory is zero already.
            buffer = vec![0; MAX_PACKET];
        }
        let result = match self.receive_packet(&mut buffer, patience) {
            Ok(Some(packet)) => take(packet, &buffer).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        RECEIVING.set(buffer);
        result
    }

    fn receive_packet(&self, buffer: &mut [u8], patience: Patience) -> Result<Option<Packet>, RecvError> {
        let blocking = if matches!(patience, Patience::Forever) { Blocking::Yes } else { Blocking::No };
        loop {
            match packet::receive(self.fd.as_fd(), buffer, blocking) {
                Ok(packet) => return Ok(Some(packet)),
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match patience {
                    Patience::Until(deadline) => {
                        if !poll::readable(self.fd.as_fd(), deadline).map_err(RecvError::Io)? {
                            return Ok(None);
                        }
                    }
                    // Someone who shares the socket has made it non-blocking.
                    Patience::Forever => {
                        poll::readable(self.fd.as_fd(), Deadline::NEVER).map_err(RecvError::Io)?;
                    }
                    Patience::None => return Ok(None),
                },
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    // Not the end yet: what the peer had sent is still to come.
                    self.unread.store(true, Ordering::Relaxed);
                }
                Err(Failure::Io(error)) => return Err(RecvError::Io(error)),
                Err(Failure::End) => return Err(RecvError::Disconnected),
                Err(Failure::TooLarge { length, limit }) => return Err(RecvError::TooLarge { length, limit }),
                Err(Failure::Truncated) => return Err(RecvError::Truncated),
                Err(Failure::Malformed(why)) => return Err(RecvError::Malformed(why)),
            }
        }
    }

    pub(super) fn recv<T: DeserializeOwned>(&self, patience: Patience) -> Result<Option<T>, RecvError> {
        self.receive(patience, |packet, buffer| {
            match packet.body {
                Received::Inline(range) => crate::codec::decode(&buffer[range], packet.handles),
                Received::Sealed { file, length } => Body::Sealed { file, length }.decode(packet.handles),
            }
            .map_err(RecvError::Decode)
        })
    }

    pub(super) fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let received = self.receive(Patience::Forever, |packet, buffer| with_bytes(&packet, buffer, <[u8]>::to_vec))?;
        received.ok_or(RecvError::Disconnected)
    }

    pub(super) fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvError> {
        let received = self.receive(Patience::Forever, |packet, buffer| {
            with_bytes(&packet, buffer, |bytes| match into.get_mut(..bytes.len()) {
                Some(place) => {
                    place.copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                None => Err(RecvError::BufferTooShort(bytes.to_vec())),
            })?
        })?;
        received.ok_or(RecvError::Disconnected)
    }

    /// Whether the peer turned out to have been closed with something of ours unread.
    pub(super) fn peer_left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        poll::readable(self.fd.as_fd(), Deadline::from_timeout(timeout))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Shows a message that is plain bytes; it can carry no handles.
fn with_bytes<R>(packet: &Packet, buffer: &[u8], show: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
    if !packet.handles.is_empty() {
        return Err(RecvError::Decode(crate::DecodeError::new("a message of plain bytes carries handles")));
    }
    match &packet.body {
        Received::Inline(range) => Ok(show(&buffer[range.clone()])),
        Received::Sealed { file, length } => Ok(show(map(file, *length).map_err(RecvError::Decode)?.bytes())),
    }
}

thread_local! {
    /// The buffers that messages of this thread are encoded into and received into. Each is taken out while it is in use, so
    /// that a `Serialize` or `Deserialize` that itself uses a connection finds an empty one.
    static ENCODING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static RECEIVING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
