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
use super::lane::{self, Arriving, Offered, Sending, Sent};
use super::packet::{self, Failure, MAX_INLINE, MAX_PACKET, Packet, Received};
use super::spin::Spin;
use super::turn::Turn;
use crate::codec::{self, DecodeError, Source};
use crate::handle::{Collecting, Offering};
use crate::message::{self, Body, Encoded, Passage};
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
    /// Whether to offer a large message to a receiver that waits.
    offers: Backoff,
    /// Whether to look for a message before sleeping.
    looks: Backoff,
    /// The peer was closed with something unread.
    unread: AtomicBool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Watched::new(fd),
            turn: Turn::new(),
            offers: Backoff::new(),
            looks: Backoff::new(),
            unread: AtomicBool::new(false),
        }
    }

    pub(super) fn send<T: Serialize + ?Sized>(&self, value: &T, patience: Patience) -> Result<(), SendErrorReason> {
        let mut scratch = take_buffer(&ENCODING);
        scratch.clear();
        let mut lane = Sending::new(&self.offers, |far_end| self.offer(far_end));
        // Whoever does not wait for room does not wait for a receiver either.
        let patient = matches!(patience, Patience::Forever);
        let passage = patient.then_some(&mut lane as &mut dyn Passage);
        let (mut whole, result) = match Body::encode(value, MAX_INLINE, scratch, passage) {
            Ok(Encoded::Whole(body, handles)) => (Some((body, handles)), Ok(())),
            Ok(Encoded::Passed) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Sent::No { begun: true } = lane.conclude(result)? {
            whole = match Body::encode(value, MAX_INLINE, Vec::new(), None).map_err(SendErrorReason::Encode)? {
                Encoded::Whole(body, handles) => Some((body, handles)),
                Encoded::Passed => None,
            };
        }
        let Some((body, handles)) = whole else { return Ok(()) };
        let result = self.send_body(&body, &handles, patience);
        if let Body::Inline(scratch) = body {
            put_back(&ENCODING, scratch);
        }
        result
    }

    pub(super) fn send_bytes(&self, bytes: &[u8], patience: Patience) -> Result<(), SendErrorReason> {
        // A value around this, the encoding of which sends something, keeps its handles.
        let collecting = Collecting::begin();
        let mut lane = Sending::new(&self.offers, |far_end| self.offer(far_end));
        let patient = matches!(patience, Patience::Forever);
        let (mut body, result) = match Body::raw(bytes, MAX_INLINE, patient.then_some(&mut lane as &mut dyn Passage)) {
            Ok(body) => (body, Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Sent::No { begun: true } = lane.conclude(result)? {
            body = Body::raw(bytes, MAX_INLINE, None).map_err(SendErrorReason::Encode)?;
        }
        drop(collecting);
        body.map_or(Ok(()), |body| self.send_body(&body, &[], patience))
    }

    fn offer(&self, far_end: BorrowedFd<'_>) -> Result<(), SendErrorReason> {
        self.retry_send(Patience::Forever, |blocking| packet::offer(self.fd.as_fd(), far_end, blocking))
    }

    fn send_body(&self, body: &Body, handles: &[OwnedFd], patience: Patience) -> Result<(), SendErrorReason> {
        match body {
            Body::Inline(_) => self.send_packet(body, handles, None, patience),
            Body::Sealed { .. } => self.send_large(body, handles, patience),
        }
    }

    fn send_large(&self, body: &Body, handles: &[OwnedFd], patience: Patience) -> Result<(), SendErrorReason> {
        if lane::is_inside() {
            // Whoever could receive the last one may be receiving the message that this thread is encoding.
            return self.send_packet(body, handles, None, patience);
        }
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
        self.retry_send(patience, |blocking| packet::send(self.fd.as_fd(), body, handles, receipt, blocking))
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
        mut take: impl FnMut(Incoming<'_>) -> Result<Option<R>, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let mut buffer = take_buffer(&RECEIVING);
        if buffer.len() < MAX_PACKET {
            // Once per thread.
            buffer = vec![0; RECEIVING_LENGTH];
        }
        let result = loop {
            let packet = match self.receive_packet(&mut buffer, patience) {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            };
            let incoming = match (packet.body, patience) {
                (Received::Inline(range), _) => Incoming::Inline(&buffer[range], packet.handles),
                (Received::Sealed { file, length }, _) => Incoming::Sealed(file, length, packet.handles),
                (Received::Offer(lane), Patience::Forever) => match lane::accept(lane, self.fd.as_fd()) {
                    Ok(Offered::Message(arriving)) => Incoming::Arriving(arriving),
                    Ok(Offered::Nothing) => continue,
                    Err(error) => break Err(error),
                },
                // Declined, by closing it: the message comes another way.
                (Received::Offer(_) | Received::Nothing, _) => continue,
            };
            match take(incoming) {
                Ok(None) => {}
                result => break result,
            }
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
            Incoming::Inline(bytes, handles) => codec::decode(bytes, handles).map(Some).map_err(RecvError::Decode),
            Incoming::Sealed(file, length, handles) => {
                Body::Sealed { file, length }.decode(handles).map(Some).map_err(RecvError::Decode)
            }
            Incoming::Arriving(arriving) => arriving.decode(),
        })
    }

    pub(super) fn recv_bytes(&self, patience: Patience) -> Result<Option<Vec<u8>>, RecvError> {
        self.receive(patience, |incoming| {
            incoming.plain(|plain| match plain {
                Plain::Bytes(bytes) => codec::copy(bytes).map(Ok),
                Plain::Source(source) => codec::read_all(source).map(Ok),
            })
        })
    }

    pub(super) fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvError> {
        let received = self.receive(Patience::Forever, |incoming| {
            incoming.plain(|plain| match plain {
                Plain::Bytes(bytes) => copy(bytes, into),
                Plain::Source(source) => fill(into, source),
            })
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

/// A message that can be taken.
enum Incoming<'a> {
    Inline(&'a [u8], Vec<OwnedFd>),
    Sealed(OwnedFd, u64, Vec<OwnedFd>),
    Arriving(Arriving<'a>),
}

impl Incoming<'_> {
    /// Takes a message of plain bytes; it can carry no handles. `None` if it never was.
    fn plain<R>(
        self,
        mut take: impl FnMut(Plain<'_>) -> Result<Result<R, RecvError>, DecodeError>,
    ) -> Result<Option<R>, RecvError> {
        let (result, has_handles) = match self {
            Self::Inline(bytes, handles) => (take(Plain::Bytes(bytes)), !handles.is_empty()),
            Self::Sealed(file, length, handles) => {
                let result = message::open(&file, length).and_then(|mut source| take(Plain::Source(&mut source)));
                (result, !handles.is_empty())
            }
            Self::Arriving(mut arriving) => {
                // A value around this, the decoding of which receives something, gets none of the handles.
                let offering = Offering::begin(Vec::new());
                let result = take(Plain::Source(&mut arriving));
                drop(offering);
                let has_handles = arriving.has_handles();
                match arriving.conclude(result)? {
                    Some(result) => (Ok(result), has_handles),
                    None => return Ok(None),
                }
            }
        };
        if has_handles {
            return Err(RecvError::Decode(DecodeError::new("a message of plain bytes carries handles")));
        }
        result.map_err(RecvError::Decode)?.map(Some)
    }
}

/// A message that is bytes as they are.
enum Plain<'a> {
    Bytes(&'a [u8]),
    Source(&'a mut dyn Source),
}

/// Copies a whole message into `into`. If it does not fit, the error holds it.
fn copy(bytes: &[u8], into: &mut [u8]) -> Result<Result<usize, RecvError>, DecodeError> {
    match into.get_mut(..bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(Ok(bytes.len()))
        }
        None => codec::copy(bytes).map(RecvError::BufferTooShort).map(Err),
    }
}

/// Reads a whole message into `into`. If it does not fit, the error holds it.
fn fill(into: &mut [u8], source: &mut dyn Source) -> Result<Result<usize, RecvError>, DecodeError> {
    let mut filled = 0;
    while filled < into.len() {
        match source.read_slice(&mut into[filled..])? {
            0 => return Ok(Ok(filled)),
            some => filled += some,
        }
    }
    let rest = codec::read_all(source)?;
    if rest.is_empty() {
        return Ok(Ok(filled));
    }
    let mut message = codec::copy(into)?;
    codec::append(&mut message, &rest)?;
    Ok(Err(RecvError::BufferTooShort(message)))
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
