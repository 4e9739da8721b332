//! Unix sockets of type `SOCK_SEQPACKET`: connected, ordered, and each packet whole or not at all.
//!
//! That a packet is atomic is what every guarantee of the transports rests on: two senders never
//! interleave, a sender that is killed leaves a whole packet or none, and nothing has to be read ahead.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair, sockopt,
};

use super::fd::{above_standard_streams, append};

/// The most descriptors that the kernel carries in one packet (`SCM_MAX_FD`).
pub(crate) const MAX_HANDLES: usize = 253;

/// Whether a call may sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_standard_streams(a)?, above_standard_streams(b)?))
}

/// Tells whether `fd` is a socket of the kind that [`pair`] makes.
pub(crate) fn is_ours(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) && sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
}

/// A pair of stream sockets, whose buffers hold what sender and receiver need to work at the same time.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The kernel keeps it within what the system allows.
    sockopt::set_socket_send_buffer_size(&a, STREAM_BUFFER)?;
    Ok((above_standard_streams(a)?, above_standard_streams(b)?))
}

/// How much of a stream may be under way, in bytes.
const STREAM_BUFFER: usize = 512 << 10;

/// Tells whether `fd` is a socket of the kind that [`stream_pair`] makes.
pub(crate) fn is_stream(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) && sockopt::socket_type(fd) == Ok(SocketType::STREAM)
}

/// Sends all of `parts` into a stream, and `handles` beside the first byte.
///
/// # Errors
///
/// `BrokenPipe` or `ConnectionReset` if nobody can receive it any more.
pub(crate) fn send_all<const N: usize>(
    stream: BorrowedFd<'_>,
    mut parts: [IoSlice<'_>; N],
    handles: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one frame"));
    }
    let mut parts = &mut parts[..];
    loop {
        let sent = retry_on_intr(|| sendmsg(stream, parts, &mut ancillary, SendFlags::NOSIGNAL))?;
        IoSlice::advance_slices(&mut parts, sent);
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(());
        }
        // The handles went with the first byte.
        ancillary.clear();
    }
}

/// Appends to `into` some bytes of a stream, `most` at most, without waiting; 0 is the end. Handles beside them are closed.
pub(crate) fn receive_bytes(stream: BorrowedFd<'_>, into: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    // SAFETY: rustix returns the part of the room that the kernel has filled, which is its beginning.
    unsafe { append(into, most, |room| recv(stream, room, RecvFlags::DONTWAIT).map(|((filled, _), _)| filled.len())) }
}

/// Puts some bytes of a stream into the beginning of `into`, without waiting; 0 is the end. Handles beside them are closed.
pub(crate) fn receive_slice(stream: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| recv(stream, &mut *into, RecvFlags::DONTWAIT))?.0)
}

/// Sends one packet, whole or not at all.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and has to, `BrokenPipe` or `ConnectionReset` if nobody can receive it any more.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    handles: &[BorrowedFd<'_>],
    blocking: Blocking,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one packet"));
    }
    let mut flags = SendFlags::NOSIGNAL;
    if blocking == Blocking::No {
        flags |= SendFlags::DONTWAIT;
    }
    let sent = retry_on_intr(|| sendmsg(socket, parts, &mut ancillary, flags))?;
    let expected: usize = parts.iter().map(|part| part.len()).sum();
    if sent == expected { Ok(()) } else { Err(io::Error::new(io::ErrorKind::WriteZero, "a packet was cut short")) }
}

/// Receives one packet into `buffer` and what descriptors it carries into `handles`.
///
/// Returns its length; 0 is the end of the stream, because no packet of ours is empty.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and has to. `ConnectionReset`, once, if the peer was closed with something of ours unread:
/// the kernel says so before it hands out what the peer had sent, so after this come those packets, then the end. `FileTooLarge` for a packet longer than `buffer`. `InvalidData` for one whose
/// descriptors did not all arrive (this process has no free ones, or the sender is not one of ours); its bytes are in `buffer`. The packet is
/// consumed then, and what arrived of its descriptors is closed.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    handles: &mut Vec<OwnedFd>,
    blocking: Blocking,
) -> io::Result<usize> {
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if blocking == Blocking::No {
        flags |= RecvFlags::DONTWAIT;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    handles.clear();
    let received = retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags))?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handles.extend(descriptors);
        }
    }
    let (kind, problem) = if received.flags.contains(ReturnFlags::CTRUNC) {
        let lost = "descriptors of a packet were lost: none is free in this process, or there were too many";
        (io::ErrorKind::InvalidData, lost)
    } else if received.flags.contains(ReturnFlags::TRUNC) {
        (io::ErrorKind::FileTooLarge, "a packet is longer than any that this library sends")
    } else {
        return Ok(received.bytes);
    };
    handles.clear();
    Err(io::Error::new(kind, problem))
}
