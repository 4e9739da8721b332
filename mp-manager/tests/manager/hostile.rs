//! What does not come from this library, at the door and on a connection.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mp_core::raw::Message;
use mp_core::{Fd, duplex};
use mp_manager::{Manager, Map};
use mp_testing::faults::Random;
use mp_testing::{eventually, scenario};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

/// The door that a proxy carries.
fn door(map: &Map<u64, u64>) -> OwnedFd {
    let mut message = Message::encode(map).unwrap();
    message.take_descriptors().unwrap().remove(0)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
}

/// A packet as this library makes it: header and body.
fn packet(body: &[u8], descriptors: u32) -> Vec<u8> {
    let mut packet = vec![0; 16];
    packet[4..8].copy_from_slice(&descriptors.to_le_bytes());
    packet[8..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    packet.extend_from_slice(body);
    packet
}

fn still_serves(manager: &Manager, map: &Map<u64, u64>) {
    map.insert(1, 7).unwrap();
    assert_eq!(map.get(&1).unwrap(), Some(7));
    assert_eq!(manager.exit_status(), None);
}

scenario!(whatever_comes_through_the_door_the_server_serves_on, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let door = door(&map);
    let null = std::fs::File::open("/dev/null").unwrap();
    let (stream, _other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let mut random = Random::new();
    for round in 0..200 {
        let body: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
        match round % 5 {
            0 => send(door.as_fd(), &body, &[]),
            1 => send(door.as_fd(), &packet(&body, 0), &[]),
            2 => send(door.as_fd(), &packet(&0_u32.to_le_bytes(), 1), &[null.as_fd()]),
            3 => send(door.as_fd(), &packet(&0_u32.to_le_bytes(), 1), &[stream.as_fd()]),
            // The door itself, as a connection.
            _ => send(door.as_fd(), &packet(&0_u32.to_le_bytes(), 1), &[door.as_fd()]),
        };
    }
    still_serves(&manager, &map);
});

scenario!(whatever_comes_over_a_connection_only_that_connection_ends, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    map.insert(1, 7).unwrap();
    let door = door(&map);
    let mut random = Random::new();
    let null = std::fs::File::open("/dev/null").unwrap();
    for round in 0..300_u64 {
        let (mine, theirs) = duplex::<u8, u8>().unwrap();
        let theirs = theirs.as_fd().try_clone_to_owned().unwrap();
        while !send(door.as_fd(), &packet(&0_u32.to_le_bytes(), 1), &[theirs.as_fd()]) {
            std::thread::yield_now();
        }
        drop(theirs);
        // How many requests there are. A request begins with the numbers of call and object and
        // that of the operation.
        let mut body = 1_u64.to_le_bytes().to_vec();
        body.extend(round.to_le_bytes());
        body.extend(random.below(4).to_le_bytes());
        body.extend((random.below(32) as u32).to_le_bytes());
        body.extend((0..random.below(80)).map(|_| if random.below(3) == 0 { random.next() as u8 } else { 0 }));
        match round % 3 {
            0 => send(mine.as_fd(), &packet(&body, 0), &[]),
            1 => send(mine.as_fd(), &packet(&body, 1), &[null.as_fd()]),
            _ => send(mine.as_fd(), &body, &[]),
        };
    }
    let untouched = Map::<u64, u64>::new(&manager).unwrap();
    still_serves(&manager, &untouched);
    drop(untouched);
    eventually("the connections are closed", || {
        std::fs::read_dir(format!("/proc/{}/fd", manager.pid())).unwrap().count() < 40
    });
});

scenario!(a_proxy_whose_lease_is_no_pipe_harms_nobody, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let mut message = Message::encode(&map).unwrap();
    let mut descriptors = message.take_descriptors().unwrap();
    descriptors[1] = std::fs::File::open("/dev/null").unwrap().into();
    let forged: Map<u64, u64> =
        message.copy_with(descriptors.into_iter().map(Into::into).collect()).unwrap().decode().unwrap();
    forged.insert(1, 7).unwrap();
    let outer = Map::<u64, Map<u64, u64>>::new(&manager).unwrap();
    outer.insert(1, forged).unwrap();
    still_serves(&manager, &map);
    drop(map);
    let files = Map::<u64, Fd<OwnedFd>>::new(&manager).unwrap();
    assert!(files.is_empty().unwrap());
    // The forged proxy kept nothing alive.
    let stale = outer.get(&1).unwrap().unwrap();
    eventually("the object goes", || stale.get(&1).is_err());
});
