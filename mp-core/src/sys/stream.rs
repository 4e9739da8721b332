//! Stream sockets, unix and TCP: listening, connecting, accepting, bytes in and bytes out.
//!
//! Unlike the packets of `socket` these carry bytes only, in pieces of any length, to programs that need not be ours.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType, accept_with,
    connect as connect_to, recv, sendmsg, socket_with, sockopt,
};

use super::fd::above_standard_streams;
use super::poll::Deadline;
use super::socket::Blocking;

/// Makes a socket that never sleeps, and binds it to `address`. `mode` are the permissions of the file of a unix path.
///
/// Nobody can connect to it before [`listen`].
pub(crate) fn bind(address: &SocketAddrAny, mode: u32) -> io::Result<OwnedFd> {
    let unix = address.address_family() == AddressFamily::UNIX;
    let socket = make(address, SocketFlags::NONBLOCK)?;
    if unix {
        // Linux gives the file the mode of the socket that is bound to it, without the bits of the umask: there is no moment at
        // which it has another.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    } else {
        // Or else the port could not be bound again for minutes after its connections have ended.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

/// Lets clients connect to a bound socket; `backlog` of them wait to be accepted.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, backlog)?)
}

/// Accepts a connection; `None` if there is none, or no longer.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match retry_on_intr(|| accept_with(listening, SocketFlags::CLOEXEC)) {
        Ok(socket) => Ok(Some(prepared(socket)?)),
        // The last ones are what went wrong with the connection before it was accepted, see accept(2).
        Err(
            Errno::AGAIN
            | Errno::CONNABORTED
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::PERM,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Connects to `address` by the deadline.
///
/// # Errors
///
/// `TimedOut`, and what connect(2) says.
pub(crate) fn connect(address: &SocketAddrAny, deadline: Deadline) -> io::Result<OwnedFd> {
    let socket = make(address, SocketFlags::empty())?;
    loop {
        // A unix socket whose queue is full can be waited for in no other way: it is never in progress, and poll says nothing.
        let left = deadline.left().map(|left| left.max(Duration::from_micros(1)));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, left)?;
        match connect_to(&socket, address) {
            Ok(()) | Err(Errno::ISCONN) => break,
            // Interrupted, or at the end of its time, which the next round may find not to have come quite yet: the call goes on
            // with what it had begun.
            Err(Errno::INTR | Errno::AGAIN | Errno::INPROGRESS | Errno::ALREADY) => {
                if deadline.left().is_some_and(|left| left.is_zero()) {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was not accepted in time"));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, None)?;
    prepared(socket)
}

fn make(address: &SocketAddrAny, flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    above_standard_streams(socket_with(address.address_family(), SocketType::STREAM, flags, None)?)
}

/// Makes a connected socket fit for messages: an answer does not wait until an earlier one is acknowledged.
fn prepared(socket: OwnedFd) -> io::Result<OwnedFd> {
    let socket = above_standard_streams(socket)?;
    if sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    Ok(socket)
}

/// Tells whether `fd` can be one end of a connection of this kind.
pub(crate) fn is_stream(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_type(fd) == Ok(SocketType::STREAM) && sockopt::socket_acceptconn(fd) == Ok(false)
}

/// Sends the beginning of `parts`, and returns how much of it, at least one byte.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and has to, `BrokenPipe` or `ConnectionReset` if nobody can receive it any more.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], blocking: Blocking) -> io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL;
    if blocking == Blocking::No {
        flags |= SendFlags::DONTWAIT;
    }
    Ok(retry_on_intr(|| sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags))?)
}

/// Appends to `into` what has arrived, `most` bytes or what there is room for, and returns how many; 0 is the end, or no room.
///
/// # Errors
///
/// `WouldBlock` if it may not sleep and has to, `ConnectionReset` if the peer was closed with something unread.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut Vec<u8>,
    most: usize,
    blocking: Blocking,
) -> io::Result<usize> {
    let flags = if blocking == Blocking::No { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
    let length = into.len();
    let spare = into.spare_capacity_mut();
    let most = most.min(spare.len());
    let room: &mut [MaybeUninit<u8>] = &mut spare[..most];
    let ((received, _), _) = loop {
        match recv(socket, &mut *room, flags) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let received = received.len();
    // SAFETY: `received` bytes behind the first `length` were just written by the kernel, and are `most` at most, which is
    // within the capacity.
    unsafe { into.set_len(length + received) };
    Ok(received)
}

/// The address that `socket` is bound to.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddrAny> {
    Ok(rustix::net::getsockname(socket)?)
}

/// The address of the peer; `None` if it has none.
pub(crate) fn peer_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddrAny>> {
    Ok(rustix::net::getpeername(socket.as_fd())?)
}

/// Ends one direction, or both, for everyone who has the socket.
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: std::net::Shutdown) -> io::Result<()> {
    let how = match how {
        std::net::Shutdown::Read => rustix::net::Shutdown::Read,
        std::net::Shutdown::Write => rustix::net::Shutdown::Write,
        std::net::Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(socket, how)?)
}
