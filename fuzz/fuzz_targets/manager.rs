//! Packets of chance, with descriptors of every kind, arrive at the door of a manager's server and
//! on a connection with it.
//!
//! An input is packets: a byte that says where it goes and how many descriptors go along, what
//! these are, the length of the body, the body.

#![no_main]

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use mp_core::raw::Message;
use mp_fuzz::descriptors::{Beside, Script, make, pair, send};
use mp_fuzz::limits;
use mp_manager::{Barrier, Cell, Event, List, Lock, Manager, Map, Queue, Semaphore};
use rustix::net::SocketType;

/// The longest body.
const LONGEST: usize = 64 << 10;

/// The packet goes through the door.
const TO_THE_DOOR: u8 = 0x80;

/// The connection is closed first, and another one opened.
const ANEW: u8 = 0x40;

fuzz_target!(|data: &[u8]| {
    let before = (limits::descriptors(), limits::threads());
    run(Script(data));
    // The threads of the server end after the manager. What is of a thread that ends is a leak to
    // LeakSanitizer, which does not see it.
    let begun = Instant::now();
    while (limits::descriptors(), limits::threads()) != before {
        assert!(begun.elapsed() < Duration::from_secs(10), "a descriptor is left open, or a thread is left");
        sleep(Duration::from_micros(50));
    }
});

fn run(mut script: Script<'_>) {
    let manager = Manager::here().expect("a server");
    // Their numbers are small, so chance finds them.
    let map = Map::<u64, u64>::new(&manager).expect("a map");
    let others = (
        List::<u64>::new(&manager).expect("a list"),
        Cell::new(&manager, 7_u64).expect("a cell"),
        Queue::<u64>::new(&manager).expect("a queue"),
        (Lock::new(&manager).expect("a lock"), Semaphore::new(&manager, 1).expect("a semaphore")),
        (Event::new(&manager).expect("an event"), Barrier::new(&manager, 2).expect("a barrier")),
    );
    let door = Message::encode(&map).expect("it can be sent").take_descriptors().unwrap().remove(0);
    let mut connection = connect(&door);
    while !script.is_at_end() {
        let flags = script.byte();
        let beside: Vec<Beside> = (0..flags & 3).map(|_| make(&mut script)).collect();
        let length = script.word().min(LONGEST);
        let packet = packet(script.bytes(length), beside.len());
        let handles: Vec<_> = beside.iter().map(|beside| beside.fd.as_fd()).collect();
        if flags & ANEW != 0 {
            connection = connect(&door);
        }
        let to = if flags & TO_THE_DOOR != 0 { &door } else { &connection };
        send(to.as_fd(), &packet, &handles);
    }
    let untouched = Map::<u64, u64>::new(&manager).expect("the server serves");
    untouched.insert(1, 2).expect("the server serves");
    assert_eq!(untouched.get(&1), Ok(Some(2)));
    drop((connection, others));
}

fn packet(body: &[u8], descriptors: usize) -> Vec<u8> {
    let mut packet = vec![0; 4];
    packet.extend((descriptors as u32).to_le_bytes());
    packet.extend((body.len() as u64).to_le_bytes());
    packet.extend(body);
    packet
}

/// A connection, as a proxy makes it.
fn connect(door: &OwnedFd) -> OwnedFd {
    let (mine, theirs) = pair(SocketType::SEQPACKET);
    send(door.as_fd(), &packet(&0_u32.to_le_bytes(), 1), &[theirs.as_fd()]);
    mine
}
