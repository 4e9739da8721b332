//! The untyped half of every connection: messages in, messages out.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::LocalKey;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use super::error::{RecvError, SendErrorReason};
use super::packet::{self, Failure, MAX_INLINE, MAX_PACKET, Packet, Received};
use super::spin::Spin;
use super::turn::Turn;
use crate::codec::{DecodeError, Input};
use crate::handle::Beside;
use crate::message::{self, Body};
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::Blocking;
use crate::watched::Watched;

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
    pub(super) fd: Watched,
    pub(super) turn: Turn,
    /// Whether to look for a message before sleeping.
    looks: Backoff,
    /// The peer was closed with something unread.
    unread: AtomicBool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd: Watched::new(fd), turn: Turn::new(), looks: Backoff::new(), unread: AtomicBool::new(false) }
    }

    pub(super) fn send<T: Serialize + ?Sized>(&self, value: &T, patience: Patience) -> Result<(), SendErrorReason> {
        let mut scratch = take_buffer(&ENCODING);
        scratch.clear();
        let (body, beside) = Body::encode(value, MAX_INLINE, scratch).map_err(SendErrorReason::Encode)?;
        let result = self.send_body(&body, &beside, patience);
        if let Body::Inline(scratch) = body {
            put_back(&ENCODING, scratch);
        }
        result
    }

    pub(super) fn send_bytes(&self, bytes: &[u8], patience: Patience) -> Result<(), SendErrorReason> {
        let body = Body::raw(bytes, MAX_INLINE).map_err(SendErrorReason::Encode)?;
        self.send_body(&body, &Beside::default(), patience)
    }

    fn send_body(&self, body: &Body, beside: &Beside, patience: Patience) -> Result<(), SendErrorReason> {
        match body {
            Body::Inline(_) => self.send_packet(body, beside, None, patience),
            Body::Sealed { .. } => self.send_large(body, beside, patience),
        }
    }

    fn send_large(&self, body: &Body, beside: &Beside, patience: Patience) -> Result<(), SendErrorReason> {
        let turn = self.turn.take(patience)?;
        let (mine, theirs) = crate::sys::fd::pipe().map_err(SendErrorReason::Io)?;
        self.send_packet(body, beside, Some(theirs.as_fd()), patience)?;
        turn.sent(mine);
        Ok(())
    }

    fn send_packet(
        &self,
        body: &Body,
        beside: &Beside,
        receipt: Option<BorrowedFd<'_>>,
        patience: Patience,
    ) -> Result<(), SendErrorReason> {
        self.retry_send(patience, |blocking| packet::send(self.fd.as_fd(), body, beside, receipt, blocking))
    }

    /// Sends a packet, waiting for room as long as `patience` lasts.
    fn retry_send(&self, patience: Patience, send: impl Fn(Blocking) -> io::Result<()>) -> Result<(), SendErrorReason> {
        let blocking = if matches!(patience, Patience::Forever) { Blocking::Yes } else { Blocking::No };
        loop {
            let error = match send(blocking) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.judge(error)?;
            match patience {
                Patience::None => return Err(SendErrorReason::Full),
                // Someone who shares the socket has made it non-blocking.
                Patience::Forever => {
                    poll::writable(self.fd.as_fd(), Deadline::NEVER).map_err(SendErrorReason::Io)?;
                }
                Patience::Until(deadline) => {
                    if !poll::writable(self.fd.as_fd(), deadline).map_err(SendErrorReason::Io)? {
                        return Err(SendErrorReason::TimedOut);
                    }
                }
            }
        }
    }

    /// What it means that a packet could not be sent; that there is no room is no error yet.
    pub(super) fn judge(&self, error: io::Error) -> Result<(), SendErrorReason> {
        if error.kind() == io::ErrorKind::ConnectionReset {
            // The kernel says it once, to whoever asks first.
            self.unread.store(true, Ordering::Relaxed);
        }
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(()),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                Err(SendErrorReason::Disconnected)
            }
            _ => Err(SendErrorReason::Io(error)),
        }
    }

    /// Receives one message and gives it to `take`; `None` if none came in time.
    fn receive<R>(
        &self,
        patience: Patience,
        take: impl FnOnce(Incoming<'_>) -> Result<R, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let mut buffer = take_buffer(&RECEIVING);
        if buffer.len() < MAX_PACKET {
            // Once per thread.
            buffer = vec![0; RECEIVING_LENGTH];
        }
        let result = match self.receive_packet(&mut buffer, patience) {
            Ok(Some(packet)) => take(match packet.body {
                Received::Inline(range) => Incoming::Inline(&mut buffer[range], packet.handles),
                Received::Sealed { file, length } => Incoming::Sealed(file, length, packet.handles),
            })
            .map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        put_back(&RECEIVING, buffer);
        result
    }

    fn receive_packet(&self, buffer: &mut [u8], patience: Patience) -> Result<Option<Packet>, RecvError> {
        let mut spin = match patience {
            Patience::None => None,
            _ => Some(Spin::new(&self.looks)),
        };
        loop {
            let looks = spin.as_ref().is_some_and(Spin::looks);
            let sleeps = matches!(patience, Patience::Forever) && !looks;
            let buffer = &mut buffer[..MAX_PACKET];
            match packet::receive(self.fd.as_fd(), buffer, if sleeps { Blocking::Yes } else { Blocking::No }) {
                Ok(packet) => {
                    if let Some(spin) = spin {
                        spin.found();
                    }
                    return Ok(Some(packet));
                }
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match (patience, &mut spin) {
                    (Patience::Until(deadline), _) if deadline.has_passed() => return Ok(None),
                    (_, Some(spin)) if looks => spin.in_vain(),
                    (Patience::Until(deadline), _) => {
                        if !poll::readable(self.fd.as_fd(), deadline).map_err(RecvError::Io)? {
                            return Ok(None);
                        }
                    }
                    // Someone who shares the socket has made it non-blocking.
                    (Patience::Forever, _) => {
                        poll::readable(self.fd.as_fd(), Deadline::NEVER).map_err(RecvError::Io)?;
                    }
                    (Patience::None, _) => return Ok(None),
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
        self.receive(patience, |incoming| match incoming {
            Incoming::Inline(bytes, handles) => {
                message::decode(Input::whole(bytes), handles).map_err(RecvError::Decode)
            }
            Incoming::Sealed(file, length, handles) => {
                Body::Sealed { file, length }.decode(handles).map_err(RecvError::Decode)
            }
        })
    }

    pub(super) fn recv_bytes(&self, patience: Patience) -> Result<Option<Vec<u8>>, RecvError> {
        self.receive(patience, |incoming| incoming.plain(|input| input.into_vec().map_err(RecvError::Decode)))
    }

    pub(super) fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvError> {
        let received = self.receive(Patience::Forever, |incoming| incoming.plain(|input| fill(into, input)))?;
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

/// A message that can be taken.
enum Incoming<'a> {
    Inline(&'a mut [u8], Vec<OwnedFd>),
    Sealed(OwnedFd, u64, Vec<OwnedFd>),
}

impl Incoming<'_> {
    /// Takes a message of plain bytes; it can carry no handles.
    fn plain<R>(self, take: impl FnOnce(Input<'_>) -> Result<R, RecvError>) -> Result<R, RecvError> {
        let (Self::Inline(_, handles) | Self::Sealed(.., handles)) = &self;
        if !handles.is_empty() {
            return Err(RecvError::Decode(DecodeError::new("a message of plain bytes carries handles")));
        }
        match self {
            Self::Inline(bytes, _) => take(Input::whole(bytes)),
            Self::Sealed(file, length, _) => {
                take(Input::file(&mut [], message::open(&file, length).map_err(RecvError::Decode)?))
            }
        }
    }
}

/// Reads a whole message into `into`. If it does not fit, the error holds it.
fn fill(into: &mut [u8], mut input: Input<'_>) -> Result<usize, RecvError> {
    let place = usize::try_from(input.left()).ok().and_then(|length| into.get_mut(..length));
    let Some(place) = place else {
        return Err(input.into_vec().map_or_else(RecvError::Decode, RecvError::BufferTooShort));
    };
    input.read_exact(place).map_err(RecvError::Decode)?;
    Ok(place.len())
}

/// Takes a buffer; a new one where the thread is about to end and its own are gone.
fn take_buffer(buffer: &'static LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    buffer.try_with(Cell::take).unwrap_or_default()
}

fn put_back(buffer: &'static LocalKey<Cell<Vec<u8>>>, bytes: Vec<u8>) {
    let _ = buffer.try_with(|buffer| buffer.set(bytes));
}

/// The length of the buffer into which a thread receives. It is more than a packet needs, and enough for the C library to map it by
/// itself: memory that comes from the kernel is zero already and not touched before it is used, which saves a child, that receives little, most of the cost.
const RECEIVING_LENGTH: usize = 192 << 10;
const _: () = assert!(RECEIVING_LENGTH >= MAX_PACKET);

thread_local! {
    /// The buffers that messages of this thread are encoded into and received into. Each is taken out while it is in use, so
    /// that a `Serialize` or `Deserialize` that itself uses a connection finds an empty one.
    pub(super) static ENCODING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static RECEIVING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
