//! Packets of chance, with descriptors of every kind, arrive at a connection as a hostile peer
//! would send them.
//!
//! An input is the type to receive, and packets: a byte of flags and how many descriptors go along,
//! what these are, the length of the packet, the packet.

#![no_main]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libfuzzer_sys::fuzz_target;
use mp_core::__fuzzing::{Report, Start};
use mp_core::raw::Message;
use mp_core::{Connection, RecvError};
use mp_fuzz::descriptors::{Beside, Script, make, pair, send};
use mp_fuzz::limits;
use mp_fuzz::values::{Anything, Handles, Opened, look_into, look_into_outcome};
use rustix::net::SocketType;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

/// The longest packet, a little beyond what ours are at most.
const LONGEST: usize = (64 << 10) + 16;

/// The flag that puts the true numbers into the header, which chance hardly finds.
const HONEST: u8 = 0x80;

fuzz_target!(|data: &[u8]| limits::hold(|| run(Script(data))));

/// The flag of the first byte that lets the receiver wait, until all senders are gone.
const PATIENT: u8 = 0x40;

fn run(mut script: Script<'_>) -> usize {
    let first = script.byte();
    let script = Attack { script, patient: first & PATIENT != 0 };
    match first % 8 {
        0 => attack(script, |value: Anything| drop(value)),
        1 => attack(script, |value: Handles| drop(value)),
        2 => attack(script, look_into),
        3 => attack(script, |start: Start| drop(start.into_call().run())),
        4 => attack(script, |report: Report| report.into_outcome().into_iter().for_each(look_into_outcome)),
        5 => attack(script, |value: ByteBuf| drop(value)),
        6 => attack_bytes(script, false),
        _ => attack_bytes(script, true),
    }
}

/// A connection, and the socket at its other end.
fn connection<T>() -> (OwnedFd, Connection<(), T>) {
    let (raw, theirs) = pair(SocketType::SEQPACKET);
    // A handle is a handle: a socket goes in and a connection comes out.
    let message = Message::encode(&Opened(theirs)).expect("a descriptor is free");
    (raw, message.decode().expect("it is a socket of the right kind"))
}

struct Attack<'a> {
    script: Script<'a>,
    patient: bool,
}

fn attack<T: DeserializeOwned>(attack: Attack<'_>, mut take: impl FnMut(T)) -> usize {
    let Attack { mut script, patient } = attack;
    let (raw, connection) = connection::<T>();
    let mut weight = 0;
    if patient {
        while !script.is_at_end() {
            weight += send_next(&mut script, &raw);
        }
        drop(raw);
        for message in connection.iter() {
            match message {
                Ok(value) => take(value),
                Err(error) => check(&error),
            }
        }
        return weight;
    }
    while !script.is_at_end() {
        weight += send_next(&mut script, &raw);
        match connection.try_recv() {
            Ok(Some(value)) => take(value),
            Ok(None) => {}
            Err(error) => check(&error),
        }
    }
    weight
}

/// These wait, so what there is to receive is there before.
fn attack_bytes(attack: Attack<'_>, into: bool) -> usize {
    let Attack { mut script, .. } = attack;
    let (raw, connection) = connection::<()>();
    let mut weight = 0;
    let mut buffer = [0; 64];
    while !script.is_at_end() {
        weight += send_next(&mut script, &raw);
    }
    drop(raw);
    loop {
        let result =
            if into { connection.recv_bytes_into(&mut buffer).map(drop) } else { connection.recv_bytes().map(drop) };
        match result {
            Ok(()) => {}
            Err(RecvError::Disconnected) => return weight,
            Err(error) => check(&error),
        }
    }
}

/// Sends what the script says next, and returns how many bytes that may be.
fn send_next(script: &mut Script<'_>, raw: &OwnedFd) -> usize {
    let flags = script.byte();
    let count = if flags & 0x0F == 0x0F { 253 } else { usize::from(flags & 0x07) };
    let mut beside: Vec<Beside> = Vec::new();
    while beside.len() < count.min(8) {
        beside.push(make(script));
    }
    let length = script.word();
    let mut packet = script.bytes(length.min(LONGEST)).to_vec();
    // The rest is the first one again.
    let handles: Vec<BorrowedFd<'_>> =
        (0..count).map(|index| beside.get(index).unwrap_or(&beside[0]).fd.as_fd()).collect();
    if flags & HONEST != 0 {
        make_honest(&mut packet, handles.len(), &beside);
    }
    send(raw.as_fd(), &packet, &handles);
    // The same file may be in it more than once.
    packet.len() + beside.iter().map(|beside| beside.weight).sum::<usize>() * count.max(1)
}

/// Makes the header say what the packet is.
fn make_honest(packet: &mut Vec<u8>, handles: usize, beside: &[Beside]) {
    packet.resize(packet.len().max(16), 0);
    packet[0] %= 3;
    packet[1] &= if packet[0] == 2 { 0 } else { 3 };
    packet[2..4].fill(0);
    let sealed = packet[0] == 1;
    let leading = usize::from(packet[0] > 0) + (packet[1].count_ones() as usize);
    if packet[1] & 1 == 0 {
        packet[4..8].copy_from_slice(&(handles.saturating_sub(leading) as u32).to_le_bytes());
    }
    let length = match beside.first() {
        Some(file) if sealed => {
            packet.truncate(16);
            file.weight
        }
        Some(_) if packet[0] == 2 => {
            packet.truncate(16);
            0
        }
        _ => packet.len() - 16,
    };
    packet[8..16].copy_from_slice(&(length as u64).to_le_bytes());
}

/// Each error can be shown, and none says more than the peer has sent.
fn check(error: &RecvError) {
    assert!(!error.to_string().is_empty());
}
