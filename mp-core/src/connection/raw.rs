//! The untyped half of every connection: messages in, messages out.

use std::cell::Cell;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::LocalKey;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendErrorReason};
use super::packet::{self, BodyRef, Failure, FileBody, MAX_INLINE, MAX_PACKET, Packet, ReceivedBody};
use crate::codec::{DecodeError, Input};
use crate::descriptor::SharedFd;
use crate::large::{self, LargeMessages, Receipt};
use crate::message::{self, Beside, Spill, unreadable};
use crate::pollable::PollableFd;
use crate::spin::Spins;
use crate::sys::memfd::{MemoryFile, Reader};
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::Blocking;

/// One end of a connection. It may be used from several threads, and its socket from several
/// processes.
pub(super) struct Socket {
    pub(super) fd: PollableFd,
    pub(super) large: LargeMessages,
    /// Whether looking for room before sleeping has paid.
    send_spins: Spins,
    /// Whether looking for a message has paid.
    receive_spins: Spins,
    /// The peer was closed with something unread.
    unread: AtomicBool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: PollableFd::new(fd),
            large: LargeMessages::default(),
            send_spins: Spins::new(),
            receive_spins: Spins::new(),
            unread: AtomicBool::new(false),
        }
    }

    pub(super) fn send<T: Serialize + ?Sized>(&self, value: &T, deadline: Deadline) -> Result<(), SendErrorReason> {
        self.send_by(self.encode(value)?, deadline)
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendErrorReason> {
        let spill = Spill { beyond: MAX_INLINE, lent: None, file: &|| self.large.file() };
        let mut buffer = encoding_buffer();
        let file = message::encode_bytes(bytes, &mut buffer, spill).map_err(SendErrorReason::Encode)?;
        self.send_by(Outgoing::new(file, buffer, Vec::new()), Deadline::NEVER)
    }

    pub(super) fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Outgoing, SendErrorReason> {
        let spill = Spill { beyond: MAX_INLINE, lent: None, file: &|| self.large.file() };
        let mut buffer = encoding_buffer();
        let beside = message::encode(value, &mut buffer, spill).map_err(SendErrorReason::Encode)?;
        let Beside { file, descriptors } = beside.map(|beside| *beside).unwrap_or_default();
        Ok(Outgoing::new(file, buffer, descriptors))
    }

    fn send_by(&self, mut message: Outgoing, deadline: Deadline) -> Result<(), SendErrorReason> {
        let mut wait = self.send_spins.wait(!deadline.is_now());
        let result = loop {
            let sleeps = wait.sleeps();
            let blocking = if sleeps && deadline.is_never() { Blocking::Yes } else { Blocking::No };
            let waited = match self.attempt(&mut message, blocking) {
                Ok(Attempt::Sent) => break Ok(()),
                Ok(_) if !sleeps => Ok(true),
                // Without a deadline it is full only if a process that shares the socket has made
                // it non-blocking.
                Ok(Attempt::NoRoom) => poll::writable(self.fd.as_fd(), deadline),
                Ok(Attempt::NoCredit(receipts)) => large::wait_for_one(&receipts, deadline),
                Err(reason) => break Err(reason),
            };
            wait.in_vain();
            match waited {
                Ok(true) => {}
                Ok(false) if deadline.is_now() => break Err(SendErrorReason::Full),
                Ok(false) => break Err(SendErrorReason::TimedOut),
                Err(error) => break Err(SendErrorReason::Io(error)),
            }
        };
        if result.is_ok() {
            wait.found();
        }
        self.recycle(message.body);
        result
    }

    /// Sends a message if that needs no waiting, other than for room if it is `blocking`.
    pub(super) fn attempt(&self, message: &mut Outgoing, blocking: Blocking) -> Result<Attempt, SendErrorReason> {
        if let Body::Inline(bytes) = &mut message.body {
            match packet::send(self.fd.as_fd(), BodyRef::Inline(bytes), &message.descriptors, None, blocking) {
                Ok(()) => return Ok(Attempt::Sent),
                Err(error) if packet::is_too_large(&error) => {
                    let mut file = self.large.file().map_err(SendErrorReason::Io)?;
                    file.append(packet::body(bytes)).map_err(SendErrorReason::Io)?;
                    message.body = Body::File(file);
                }
                Err(error) => return self.check_send_error(error).map(|()| Attempt::NoRoom),
            }
        }
        let Body::File(file) = &message.body else { return Ok(Attempt::NoRoom) };
        let credit = match self.large.try_credit().map_err(SendErrorReason::Io)? {
            Ok(credit) => credit,
            Err(receipts) => return Ok(Attempt::NoCredit(receipts)),
        };
        let receipt = Some(credit.receivers_end.as_fd());
        match packet::send(self.fd.as_fd(), BodyRef::File(file), &message.descriptors, receipt, blocking) {
            Ok(()) => {
                if let Body::File(file) = mem::replace(&mut message.body, Body::Inline(Vec::new())) {
                    self.large.sent(credit, file);
                }
                Ok(Attempt::Sent)
            }
            // A task that is not polled must not keep other senders waiting, so the credit is
            // returned.
            Err(error) => self.check_send_error(error).map(|()| Attempt::NoRoom),
        }
    }

    /// Keeps the memory of a message that was sent or given up, for the next message.
    pub(super) fn recycle(&self, body: Body) {
        match body {
            Body::Inline(mut buffer) if buffer.capacity() > 0 => {
                buffer.clear();
                put_back(&ENCODING, buffer);
            }
            Body::Inline(_) => {}
            Body::File(file) => self.large.give_back(file),
        }
    }

    /// Converts an error of sending a packet. A lack of room is not an error yet.
    pub(super) fn check_send_error(&self, error: io::Error) -> Result<(), SendErrorReason> {
        if error.kind() == io::ErrorKind::ConnectionReset {
            // The kernel reports it once, to the first call.
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
        deadline: Deadline,
        take: impl FnOnce(Incoming<'_>) -> Result<R, RecvError>,
    ) -> Result<Option<R>, RecvError> {
        let mut buffer = take_buffer(&RECEIVING);
        if buffer.len() < RECEIVING_LENGTH {
            // Once per thread.
            buffer = vec![0; RECEIVING_LENGTH];
        }
        let result = match self.receive_packet(&mut buffer, deadline) {
            Ok(Some(packet)) => take(Incoming::new(packet, &mut buffer)).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        put_back(&RECEIVING, buffer);
        result
    }

    fn receive_packet(&self, buffer: &mut [u8], deadline: Deadline) -> Result<Option<Packet>, RecvError> {
        let mut wait = self.receive_spins.wait(!deadline.is_now());
        loop {
            let blocking = if wait.sleeps() && deadline.is_never() { Blocking::Yes } else { Blocking::No };
            match packet::receive(self.fd.as_fd(), &mut buffer[..MAX_PACKET], blocking) {
                Ok(packet) => {
                    wait.found();
                    return Ok(Some(packet));
                }
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    if deadline.has_passed() {
                        return Ok(None);
                    }
                    // Without a deadline it sleeps here only if a process that shares the socket
                    // has made it non-blocking.
                    if wait.sleeps() && !poll::readable(self.fd.as_fd(), deadline).map_err(RecvError::Io)? {
                        return Ok(None);
                    }
                    wait.in_vain();
                }
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    // Not the end yet: the messages that the peer sent come first.
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

    pub(super) fn recv<T: DeserializeOwned>(&self, deadline: Deadline) -> Result<Option<T>, RecvError> {
        self.receive(deadline, |incoming| incoming.decode())
    }

    pub(super) fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let received = self.receive(Deadline::NEVER, |incoming| incoming.plain()?.read())?;
        // Without a deadline there is always a message or an error.
        received.ok_or(RecvError::Disconnected)
    }

    pub(super) fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvError> {
        let received = self.receive(Deadline::NEVER, |incoming| incoming.plain()?.read_into(into))?;
        received.ok_or(RecvError::Disconnected)
    }

    /// Tells whether the peer was closed and had not read everything that this end sent.
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

/// A message that is ready to be sent.
pub(super) struct Outgoing {
    pub(super) body: Body,
    descriptors: Vec<SharedFd>,
}

/// The body of a message that is ready to be sent.
pub(super) enum Body {
    /// Behind room for the header of the packet.
    Inline(Vec<u8>),
    File(MemoryFile),
}

impl Outgoing {
    /// The body is in `file`, if there is one, and otherwise in `buffer`.
    fn new(file: Option<Box<MemoryFile>>, buffer: Vec<u8>, descriptors: Vec<SharedFd>) -> Self {
        let body = match file {
            Some(file) => {
                let mut buffer = buffer;
                buffer.clear();
                put_back(&ENCODING, buffer);
                Body::File(*file)
            }
            None => Body::Inline(buffer),
        };
        Self { body, descriptors }
    }
}

/// The result of an attempt to send a message.
pub(super) enum Attempt {
    Sent,
    /// The socket is full.
    NoRoom,
    /// Too many large messages are in flight: one of these receipts has to be closed first.
    NoCredit(Vec<Receipt>),
}

/// A message that has arrived.
struct Incoming<'a> {
    body: IncomingBody<'a>,
    descriptors: Vec<SharedFd>,
}

enum IncomingBody<'a> {
    Inline(&'a mut [u8]),
    /// A file, and the memory through which it is read.
    File(FileBody, &'a mut [u8]),
}

impl<'a> Incoming<'a> {
    fn new(packet: Packet, buffer: &'a mut [u8]) -> Self {
        let body = match packet.body {
            ReceivedBody::Inline(range) => IncomingBody::Inline(&mut buffer[range]),
            ReceivedBody::File(file) => IncomingBody::File(file, &mut buffer[..Input::AT_ONCE]),
        };
        Self { body, descriptors: packet.descriptors }
    }

    fn decode<T: DeserializeOwned>(mut self) -> Result<T, RecvError> {
        message::decode(self.body.input()?, self.descriptors).map_err(RecvError::Decode)
    }

    /// The body of a message of plain bytes, which has no descriptors.
    fn plain(self) -> Result<IncomingBody<'a>, RecvError> {
        if self.descriptors.is_empty() {
            return Ok(self.body);
        }
        Err(RecvError::Decode(DecodeError::new("the message carries descriptors; receive it with `recv`")))
    }
}

impl IncomingBody<'_> {
    fn input(&mut self) -> Result<Input<'_>, RecvError> {
        match self {
            Self::Inline(bytes) => Ok(Input::whole(bytes)),
            Self::File(file, scratch) => {
                let reader = Reader::new(file.file.as_fd(), file.length).map_err(unreadable);
                Ok(Input::file(scratch, reader.map_err(RecvError::Decode)?))
            }
        }
    }

    fn read(mut self) -> Result<Vec<u8>, RecvError> {
        self.input()?.into_vec().map_err(RecvError::Decode)
    }

    /// Reads the message into `into`. If it does not fit, the error holds it.
    fn read_into(mut self, into: &mut [u8]) -> Result<usize, RecvError> {
        let mut input = self.input()?;
        let place = usize::try_from(input.left()).ok().and_then(|length| into.get_mut(..length));
        let Some(place) = place else {
            return Err(input.into_vec().map_or_else(RecvError::Decode, RecvError::BufferTooShort));
        };
        input.read_exact(place).map_err(RecvError::Decode)?;
        Ok(place.len())
    }
}

/// Takes a buffer, or makes one if the thread is ending and its buffers are dropped.
fn take_buffer(buffer: &'static LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    buffer.try_with(Cell::take).unwrap_or_default()
}

/// Returns this thread's buffer for encoding, with room for the header of a packet.
#[inline]
fn encoding_buffer() -> Vec<u8> {
    let mut buffer = take_buffer(&ENCODING);
    packet::room(&mut buffer);
    buffer
}

/// Gives up the memory in which this thread receives, and does not unmap it: the process ends, and
/// then the kernel does that in less time.
pub(crate) fn leave_buffer() {
    mem::forget(take_buffer(&RECEIVING));
}

fn put_back(buffer: &'static LocalKey<Cell<Vec<u8>>>, bytes: Vec<u8>) {
    let _ = buffer.try_with(|buffer| buffer.set(bytes));
}

/// The length of the buffer into which a thread receives.
///
/// It is longer than a packet, and long enough that the C library maps it separately. Pages from
/// the kernel are zero already, so they take no memory before they are used, which makes the buffer
/// cheap for a child that receives little.
const RECEIVING_LENGTH: usize = 256 << 10;
const _: () = assert!(RECEIVING_LENGTH >= MAX_PACKET && RECEIVING_LENGTH >= Input::AT_ONCE);

thread_local! {
    /// The buffers into which this thread encodes and receives messages. A buffer is taken out
    /// while it is in use, so a `Serialize` or `Deserialize` that itself uses a connection gets an
    /// empty one.
    static ENCODING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static RECEIVING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
