//! Unix sockets of type `SOCK_SEQPACKET`, which are connected and ordered, and deliver each packet
//! whole or not at all.
//!
//! Everything above relies on atomic packets: two senders never interleave, a killed sender leaves
//! a whole packet or none, and nothing has to be read ahead.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

use super::fd::above_standard_streams;

/// The most descriptors that the kernel carries in one packet (`SCM_MAX_FD`).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

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

/// Sends one packet, whole or not at all.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and would have to. `BrokenPipe` or `ConnectionReset` if no
/// process can receive the packet.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>],
    blocking: Blocking,
) -> io::Result<()> {
    let mut flags = SendFlags::NOSIGNAL;
    if blocking == Blocking::No {
        flags |= SendFlags::DONTWAIT;
    }
    let sent = if descriptors.is_empty() {
        // It takes the kernel a tenth less time than `sendmsg`.
        retry_on_intr(|| rustix::net::send(socket, packet, flags))?
    } else {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet cannot carry so many descriptors"));
        }
        retry_on_intr(|| sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, flags))?
    };
    if sent == packet.len() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::WriteZero, "a packet was cut short")) }
}

/// Receives one packet into `buffer` and its descriptors into `descriptors`.
///
/// Returns its length; 0 is the end of the stream, because this library sends no empty packet.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and would have to. `ConnectionReset`, once, if the peer was
/// closed and had not read all that was sent to it: the kernel reports that first, then delivers
/// the packets that the peer sent, then the end. `FileTooLarge` for a packet longer than `buffer`.
/// `InvalidData` if not all descriptors of the packet arrived, because this process has too few
/// free or the sender is not this library; the bytes are in `buffer`. After the last two errors,
/// the packet is consumed and its descriptors are closed.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    blocking: Blocking,
) -> io::Result<usize> {
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if blocking == Blocking::No {
        flags |= RecvFlags::DONTWAIT;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    descriptors.clear();
    let received = retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags))?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    let (kind, problem) = if received.flags.contains(ReturnFlags::CTRUNC) {
        let lost = "descriptors of a message were lost: this process has too few free, or the message has too many";
        (io::ErrorKind::InvalidData, lost)
    } else if received.flags.contains(ReturnFlags::TRUNC) {
        (io::ErrorKind::FileTooLarge, "a message is longer than any that this library sends")
    } else {
        return Ok(received.bytes);
    };
    descriptors.clear();
    Err(io::Error::new(kind, problem))
}
