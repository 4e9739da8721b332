//! One message is one packet.
//!
//! | part | bytes | meaning |
//! |---|---|---|
//! | kind | 1 | 0: the body follows in this packet; 1: it is in a memory file |
//! | flags | 1 | bit 0: a bundle carries the descriptors that did not fit; bit 1: a receipt is attached |
//! | zero | 2 | |
//! | descriptors | 4 | how many descriptors the value contains |
//! | length | 8 | of the body |
//! | body | length | for kind 0 |
//!
//! These descriptors are sent beside the bytes, in this order: the memory file (kind 1), the
//! receipt, the bundle, and as many of the value's descriptors as the kernel accepts in one packet.
//! The bundle is a socket that already holds the other ones, in packets of their own, and whose
//! other end is closed.
//!
//! 1. A packet arrives whole or not at all, so a killed sender leaves no part of a message.
//! 2. Nothing is allocated for a length in a packet before the packet is known to hold that much.
//! 3. Every descriptor that arrives is at once in an `OwnedFd`, so every path closes it.
//!
//! The receipt is the write end of a pipe: see the module `large`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::codec::message_limit;
use crate::descriptor::SharedFd;
use crate::sys::memfd::MemoryFile;
use crate::sys::socket::{self, Blocking, MAX_DESCRIPTORS};

const HEADER: usize = 16;

/// The longest packet, in bytes. The default socket buffers of Linux hold it.
pub(crate) const MAX_PACKET: usize = 200 << 10;

/// The longest body that is inside its packet.
pub(crate) const MAX_INLINE: usize = MAX_PACKET - HEADER;

/// The most descriptors that a value can contain.
pub(super) const MOST_DESCRIPTORS: usize = 16 << 10;

const KIND_INLINE: u8 = 0;
const KIND_FILE: u8 = 1;
const FLAG_BUNDLE: u8 = 1 << 0;
const FLAG_RECEIPT: u8 = 1 << 1;

/// The most descriptors before those of the value: file, receipt, bundle.
const MAX_LEADING: usize = 3;

/// The bytes of a message that is sent.
pub(crate) enum BodyRef<'a> {
    /// Behind room for the header, which [`room`] makes.
    Inline(&'a mut [u8]),
    File(&'a MemoryFile),
}

/// Makes room for the header in an empty buffer, so that header and body are sent in one piece.
#[inline]
pub(crate) fn room(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[0; HEADER]);
}

/// The body behind the room for the header.
pub(crate) fn body(buffer: &[u8]) -> &[u8] {
    buffer.get(HEADER..).unwrap_or_default()
}

/// Tells whether sending failed because the system cannot send a packet of that length: its socket
/// buffers are smaller than usual, or its memory is fragmented. Then the body has to go into a
/// memory file.
pub(crate) fn is_too_large(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MSGSIZE | Errno::NOBUFS))
}

/// Sends one message as one packet.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    body: BodyRef<'_>,
    descriptors: &[SharedFd],
    receipt: Option<BorrowedFd<'_>>,
    blocking: Blocking,
) -> io::Result<()> {
    // Checked before they are bundled, because an error of a full bundle would look like a full
    // connection.
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message can carry 16384 descriptors at most"));
    }
    let direct = descriptors.len().min(MAX_DESCRIPTORS - MAX_LEADING);
    let bundle = if direct < descriptors.len() { Some(bundle(&descriptors[direct..])?) } else { None };
    let mut alone = [0; HEADER];
    let (kind, length, file, packet) = match body {
        BodyRef::Inline(bytes) => (KIND_INLINE, (bytes.len() - HEADER) as u64, None, bytes),
        BodyRef::File(file) => (KIND_FILE, file.length(), Some(file), alone.as_mut_slice()),
    };
    let mut flags = 0;
    if bundle.is_some() {
        flags |= FLAG_BUNDLE;
    }
    if receipt.is_some() {
        flags |= FLAG_RECEIPT;
    }
    let count = descriptors.len() as u32;
    packet[..HEADER].copy_from_slice(&[0; HEADER]);
    packet[..2].copy_from_slice(&[kind, flags]);
    packet[4..8].copy_from_slice(&count.to_le_bytes());
    packet[8..HEADER].copy_from_slice(&length.to_le_bytes());

    if kind == KIND_INLINE && flags == 0 && descriptors.is_empty() {
        return socket::send(socket, packet, &[], blocking);
    }
    let mut beside = Vec::with_capacity(MAX_LEADING + direct);
    beside.extend(file.map(MemoryFile::reader));
    beside.extend(receipt);
    beside.extend(bundle.as_ref().map(|bundle| bundle.as_fd()));
    beside.extend(descriptors[..direct].iter().map(|descriptor| descriptor.as_fd()));
    socket::send(socket, packet, &beside, blocking)
}

/// Packs `descriptors` into a socket that can be sent as one descriptor.
fn bundle(descriptors: &[SharedFd]) -> io::Result<OwnedFd> {
    let (near, far) = socket::pair()?;
    for some in descriptors.chunks(MAX_DESCRIPTORS) {
        let some: Vec<_> = some.iter().map(|descriptor| descriptor.as_fd()).collect();
        // This never sleeps, because no process reads the socket yet: its buffer has to hold all of
        // them. If the buffer is too small for that, trying again would not help. The connection
        // itself is not full.
        socket::send(near.as_fd(), &[0], &some, Blocking::No).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::other("the socket buffers are too small for so many descriptors; send fewer at once")
            }
            _ => error,
        })?;
    }
    Ok(far)
}

/// A message that has arrived. Its inline body is in the buffer that it was received into.
pub(crate) struct Packet {
    pub(crate) body: ReceivedBody,
    pub(crate) descriptors: Vec<SharedFd>,
}

pub(crate) enum ReceivedBody {
    /// The body is at this place in the buffer.
    Inline(std::ops::Range<usize>),
    File(FileBody),
}

/// A body in a memory file.
pub(crate) struct FileBody {
    pub(crate) file: OwnedFd,
    pub(crate) length: u64,
    /// Closing it tells the sender that the body was read.
    _receipt: Option<OwnedFd>,
}

/// Why a packet did not become a message.
pub(crate) enum Failure {
    /// Every sender is closed.
    End,
    Io(io::Error),
    /// The message is longer than this process accepts.
    TooLarge {
        length: u64,
        limit: u64,
    },
    /// The packet is shorter than its header says.
    Truncated,
    /// This library sends no such packet.
    Malformed(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Receives one message into `buffer`, which has to hold [`MAX_PACKET`] bytes.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], blocking: Blocking) -> Result<Packet, Failure> {
    let mut beside = Vec::new();
    let received = socket::receive(socket, buffer, &mut beside, blocking)?;
    if received == 0 {
        return Err(Failure::End);
    }
    parse(&buffer[..received], beside)
}

fn parse(packet: &[u8], beside: Vec<OwnedFd>) -> Result<Packet, Failure> {
    let (header, inline) = packet.split_first_chunk::<HEADER>().ok_or(Failure::Truncated)?;
    let [kind, flags, 0, 0, c0, c1, c2, c3, length @ ..] = *header else {
        return Err(Failure::Malformed("its header is unknown"));
    };
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    let length = u64::from_le_bytes(length);
    if count > MOST_DESCRIPTORS {
        return Err(Failure::Malformed("it announces more descriptors than a message can have"));
    }
    if flags & !(FLAG_BUNDLE | FLAG_RECEIPT) != 0 {
        return Err(Failure::Malformed("its flags are unknown"));
    }
    let limit = message_limit();
    if length > limit {
        return Err(Failure::TooLarge { length, limit });
    }

    let mut beside = beside.into_iter();
    let mut leading = |announced: bool| match announced.then(|| beside.next()) {
        None => Ok(None),
        Some(None) => Err(Failure::Malformed("it lacks a descriptor")),
        Some(found) => Ok(found),
    };
    let file = leading(kind == KIND_FILE)?;
    let receipt = leading(flags & FLAG_RECEIPT != 0)?;
    let bundle = leading(flags & FLAG_BUNDLE != 0)?;
    let mut descriptors: Vec<OwnedFd> = beside.collect();
    if let Some(bundle) = bundle {
        unpack(&bundle, &mut descriptors, count)?;
    }
    if descriptors.len() != count {
        return Err(Failure::Malformed("it does not carry as many descriptors as it announces"));
    }

    let body = match (kind, file) {
        (KIND_INLINE, None) if inline.len() as u64 == length => ReceivedBody::Inline(HEADER..packet.len()),
        (KIND_FILE, Some(file)) if inline.is_empty() => {
            ReceivedBody::File(FileBody { file, length, _receipt: receipt })
        }
        (KIND_INLINE, None) if (inline.len() as u64) < length => return Err(Failure::Truncated),
        (KIND_INLINE | KIND_FILE, _) => {
            return Err(Failure::Malformed("it is longer than it announces"));
        }
        _ => return Err(Failure::Malformed("its kind is unknown")),
    };
    Ok(Packet { body, descriptors: descriptors.into_iter().map(SharedFd::from).collect() })
}

/// Unpacks a bundle. With its descriptors there have to be `count` in all.
fn unpack(bundle: &OwnedFd, descriptors: &mut Vec<OwnedFd>, count: usize) -> Result<(), Failure> {
    if !socket::is_ours(bundle.as_fd()) {
        return Err(Failure::Malformed("its bundle of descriptors is not a socket"));
    }
    let mut some = Vec::new();
    while descriptors.len() < count {
        // A bundle is complete before it is sent, so a receiver never has to wait for it.
        match socket::receive(bundle.as_fd(), &mut [0; 1], &mut some, Blocking::No) {
            Ok(0) => break,
            Ok(_) if some.is_empty() => {
                return Err(Failure::Malformed("its bundle holds a packet without descriptors"));
            }
            Ok(_) => descriptors.append(&mut some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // No descriptor is free, or the packet is not from this library. The message is lost.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge) => {
                return Err(error.into());
            }
            Err(_) => return Err(Failure::Malformed("its bundle of descriptors is damaged")),
        }
    }
    Ok(())
}
