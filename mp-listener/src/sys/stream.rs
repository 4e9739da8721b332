//! Stream sockets, unix and TCP: listening, connecting, accepting, sending and receiving bytes.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mp_core::raw::{Deadline, above_standard_streams};
use rustix::fs::{Mode, fchmod};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType, accept_with,
    connect as connect_to, getpeername, getsockname, recv, sendmsg, socket_with, sockopt,
};

/// Makes a non-blocking socket and binds it to `address`. `mode` is the mode of the file of a unix
/// path.
///
/// Clients cannot connect to it before [`listen`].
pub(crate) fn bind(address: &SocketAddrAny, mode: u32) -> io::Result<OwnedFd> {
    let socket = make(address, SocketFlags::NONBLOCK)?;
    if address.address_family() == AddressFamily::UNIX {
        // Linux gives the file the mode of the bound socket, less the umask, so the file never has
        // another mode.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    } else {
        // Otherwise the port could not be bound again for minutes after its connections have ended.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

/// Lets clients connect to a bound socket. Up to `backlog` of them can wait to be accepted.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, backlog)?)
}

/// Accepts a connection without waiting. Returns `None` if there is none, or if it failed
/// meanwhile.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match retry_on_intr(|| accept_with(listening, SocketFlags::CLOEXEC)) {
        Ok(socket) => Ok(Some(prepared(socket)?)),
        // All but the first are errors of the connection before it was accepted: see accept(2).
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
/// `TimedOut`, and the errors of connect(2).
pub(crate) fn connect(address: &SocketAddrAny, deadline: Deadline) -> io::Result<OwnedFd> {
    let socket = make(address, SocketFlags::empty())?;
    loop {
        // There is no other way to wait for a unix socket whose queue is full: poll(2) does not
        // report it.
        let left = deadline.left().map(|left| left.max(Duration::from_micros(1)));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, left)?;
        match connect_to(&socket, address) {
            Ok(()) | Err(Errno::ISCONN) => break,
            // Interrupted, or the timeout ended slightly before the deadline. The next call
            // continues the same attempt.
            Err(Errno::INTR | Errno::AGAIN | Errno::INPROGRESS | Errno::ALREADY) => {
                if deadline.has_passed() {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the connection was not accepted before the timeout",
                    ));
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

/// Prepares a connected socket for messages: TCP must not delay one until an earlier one is
/// acknowledged.
fn prepared(socket: OwnedFd) -> io::Result<OwnedFd> {
    let socket = above_standard_streams(socket)?;
    if sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    Ok(socket)
}

/// Tells whether `fd` can be an end of a connection.
pub(crate) fn is_stream(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_type(fd) == Ok(SocketType::STREAM) && sockopt::socket_acceptconn(fd) == Ok(false)
}

/// Sends the beginning of `parts` without waiting, and returns how many bytes it sent, at least
/// one.
///
/// # Errors
///
/// `WouldBlock` if there is no room, `BrokenPipe` or `ConnectionReset` if the peer cannot receive
/// it.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(retry_on_intr(|| sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags))?)
}

/// Receives bytes into the beginning of `buffer` without waiting, and returns how many; 0 is the
/// end.
///
/// # Errors
///
/// `WouldBlock` if nothing has arrived, `ConnectionReset` if the peer was closed and had not read
/// everything.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::DONTWAIT))?.0)
}

/// Returns the address of `socket`.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddrAny> {
    Ok(getsockname(socket)?)
}

/// Returns the address of the peer, or `None` if it has none.
pub(crate) fn peer_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddrAny>> {
    Ok(getpeername(socket.as_fd())?)
}

/// Ends one direction or both, for every descriptor of the socket.
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(socket, how)?)
}
