//! A peer that sends without end holds no deadline up.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{Receiver, process_fn};
use mp_testing::leaks::timed;
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PROMPTLY, scenario};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

const A_MOMENT: Duration = Duration::from_millis(50);

/// Encoded as every handle is, so that a socket goes in and a receiver comes out.
#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] OwnedFd);

/// Sends packets with a descriptor that they do not announce, until no process receives them.
fn flood(socket: BorrowedFd<'_>) {
    let packet = [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let null = std::fs::File::open("/dev/null").unwrap();
    let handles = [null.as_fd()];
    loop {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&handles)));
        match sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::PIPE | Errno::CONNRESET) => return,
            other => drop(other.unwrap()),
        }
    }
}

scenario!(a_flood_of_packets_holds_no_receiver_up, {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let receiver: Receiver<u32> = Message::encode(&Handle(theirs)).unwrap().decode().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| flood(ours.as_fd()));
        assert!(receiver.poll(Some(PROMPTLY)).unwrap());
        for _ in 0..100 {
            let (result, took) = timed(|| receiver.recv_timeout(A_MOMENT));
            assert!(!matches!(result, Ok(Some(_))) && took < PROMPTLY, "{result:?} after {took:?}");
            let (result, took) = timed(|| receiver.try_recv());
            assert!(!matches!(result, Ok(Some(_))) && took < PROMPTLY, "{result:?} after {took:?}");
        }
        drop(receiver);
    });
});

#[process_fn]
fn flood_the_parent() {
    // SAFETY: the control socket of a child has the first number after the standard streams, and is
    // open until the process ends.
    flood(unsafe { BorrowedFd::borrow_raw(3) });
    loop {
        thread::park();
    }
}

scenario!(a_flood_from_a_child_holds_no_join_up, {
    if is_not_for_fork_server("the control socket has another number") {
        return;
    }
    let mut process = flood_the_parent::spawn().unwrap();
    for _ in 0..5 {
        let (result, took) = timed(|| process.join_timeout(A_MOMENT));
        assert!(!matches!(result, Ok(Some(()))) && took < PROMPTLY, "{result:?} after {took:?}");
    }
    process.kill().unwrap();
    let (result, took) = timed(|| process.join());
    assert!(result.is_err() && took < PROMPTLY, "{result:?} after {took:?}");
});
