//! Messages one way: how long one of a stream of them takes, or one that is sent when the one
//! before was received; small and large.
//!
//! A turn is announced over a socket that is the same for everybody. The receiver says over it that
//! it has all of a stream, or each single message.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use mp_core::{Receiver, pipe, process_fn};
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::resident::available;
use super::{pinned, row};
use crate::measure::{Contender, Row, Run, Scale};
use crate::partner::{Handle, Partner, failed, read_all, sockets, write_all};

/// How a message arrives.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// `send`, and `recv` of a value with bytes in it; the limit reads into fresh memory.
    Value,
    /// `send_bytes` and `recv_bytes`; the limit reads into fresh memory.
    Fresh,
    /// `send_bytes` and `recv_bytes_into`; the limit reads into the same memory again.
    Into,
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// At once.
    Stream,
    /// When the receiver has said that it has the one before.
    Single,
}

const SMALL: [(&str, usize); 3] = [("8B", 8), ("1KiB", 1 << 10), ("60KiB", 60 << 10)];
const LARGE: [(&str, usize); 6] = [
    ("64KiB", 64 << 10),
    ("256KiB", 256 << 10),
    ("1MiB", 1 << 20),
    ("16MiB", 16 << 20),
    ("64MiB", 64 << 20),
    ("1GiB", 1 << 30),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, size) in SMALL {
        rows.push(row(&format!("small/value/{name}"), move |_| contenders(Way::Value, Pace::Stream, size, None)));
        rows.push(row(&format!("small/into/{name}"), move |_| contenders(Way::Into, Pace::Stream, size, None)));
    }
    rows.push(pinned("small/value/8B", |_| contenders(Way::Value, Pace::Stream, 8, None)));
    for (name, size) in LARGE {
        for (way, text) in [(Way::Value, "value"), (Way::Fresh, "bytes"), (Way::Into, "into")] {
            rows.push(row(&format!("large/{text}/{name}"), move |scale| large(way, Pace::Stream, size, scale)));
        }
        rows.push(pinned(&format!("large/value/{name}"), move |scale| large(Way::Value, Pace::Stream, size, scale)));
        rows.push(row(&format!("single/value/{name}"), move |scale| large(Way::Value, Pace::Single, size, scale)));
        rows.push(pinned(&format!("single/value/{name}"), move |scale| large(Way::Value, Pace::Single, size, scale)));
    }
    rows
}

fn large(way: Way, pace: Pace, size: usize, scale: Scale) -> Vec<Contender> {
    // The bytes here, in flight, mapped there, copied there; and as much again for the limit.
    if size >= 1 << 30 && (scale.quick || available() < 6 << 30) {
        return Vec::new();
    }
    // The rate has to be 0.8 of the limit's, so the time may be 1 / 0.8 of it.
    contenders(way, pace, size, Some(1.25))
}

fn contenders(way: Way, pace: Pace, size: usize, goal: Option<f64>) -> Vec<Contender> {
    let message = Rc::new(vec![0x5a; size]);
    let mut contenders = vec![
        Contender::ours("pipe", ours(way, pace, &message)),
        Contender::limit("socketpair, SOCK_STREAM", goal, raw(SocketType::STREAM, way, pace, &message)),
    ];
    if goal.is_none() {
        // One message is one packet, as with ours.
        let packets = raw(SocketType::SEQPACKET, way, pace, &message);
        contenders.push(Contender::limit("socketpair, SOCK_SEQPACKET", None, packets));
    }
    #[cfg(feature = "peers")]
    if way != Way::Into && size < 1 << 30 {
        contenders.extend(crate::peers::flow(pace, &message));
    }
    contenders
}

/// A turn: announced, sent by `send` one by one, acknowledged.
pub(crate) fn turn(
    control: &OwnedFd,
    pace: Pace,
    operations: u32,
    mut send: impl FnMut() -> io::Result<()>,
) -> io::Result<std::time::Duration> {
    let acknowledged = || -> io::Result<()> {
        if read_all(control, &mut [0; 4])? { Ok(()) } else { Err(io::Error::other("the receiver came to harm")) }
    };
    let start = Instant::now();
    write_all(control, &operations.to_le_bytes())?;
    for place in 1..=operations {
        send()?;
        if pace == Pace::Single || place == operations {
            acknowledged()?;
        }
    }
    Ok(start.elapsed())
}

/// The other side of turns: receives by `receive`, until one fails or there are no more.
pub(crate) fn receive_turns(control: &Handle, pace: Pace, mut receive: impl FnMut() -> bool) {
    let mut announced = [0; 4];
    while let Ok(true) = read_all(control, &mut announced) {
        let operations = u32::from_le_bytes(announced);
        for place in 1..=operations {
            if !receive() {
                return;
            }
            if (pace == Pace::Single || place == operations) && write_all(control, &announced).is_err() {
                return;
            }
        }
    }
}

#[process_fn]
fn receive_values(messages: Receiver<ByteBuf>, control: Handle, pace: Pace) {
    receive_turns(&control, pace, || messages.recv().map(black_box).is_ok());
}

#[process_fn]
fn receive_bytes(messages: Receiver<ByteBuf>, control: Handle, pace: Pace, into: Option<u64>) {
    match into.and_then(|size| usize::try_from(size).ok()) {
        Some(size) => {
            let mut buffer = vec![1; size];
            receive_turns(&control, pace, || messages.recv_bytes_into(black_box(&mut buffer)).is_ok());
        }
        None => receive_turns(&control, pace, || messages.recv_bytes().map(black_box).is_ok()),
    }
}

fn ours(way: Way, pace: Pace, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (sender, receiver) = pipe::<ByteBuf>()?;
    let (control, theirs) = sockets(SocketType::SEQPACKET)?;
    let process = match way {
        Way::Value => receive_values::spawn(receiver, Handle(theirs), pace),
        Way::Fresh => receive_bytes::spawn(receiver, Handle(theirs), pace, None),
        Way::Into => receive_bytes::spawn(receiver, Handle(theirs), pace, Some(message.len() as u64)),
    };
    let mut partner = Partner::new((sender, control), process)?;
    if way == Way::Value {
        let value = ByteBuf::from(message.to_vec());
        return Ok(Box::new(move |operations| {
            let (sender, control) = partner.channels()?;
            turn(control, pace, operations, || sender.send_ref(&value).map_err(failed))
        }));
    }
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (sender, control) = partner.channels()?;
        turn(control, pace, operations, || sender.send_bytes(&message).map_err(failed))
    }))
}

#[process_fn]
fn raw_receive(socket: Handle, control: Handle, pace: Pace, size: u64, fresh: bool) {
    let Ok(size) = usize::try_from(size) else { return };
    if fresh {
        // Uninitialised, so that nobody pays for zeros that are overwritten.
        receive_turns(&control, pace, || {
            let mut bytes = Vec::with_capacity(size);
            while bytes.len() < size {
                match rustix::io::read(&socket, rustix::buffer::spare_capacity(&mut bytes)) {
                    Ok(1..) => {}
                    _ => return false,
                }
            }
            black_box(&bytes);
            true
        });
    } else {
        let mut buffer = vec![1; size];
        receive_turns(&control, pace, || matches!(read_all(&socket, black_box(&mut buffer)), Ok(true)));
    }
}

fn raw(kind: SocketType, way: Way, pace: Pace, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    raw_between(sockets(kind)?, way != Way::Into, pace, message)
}

/// Writes to the first and reads from the second of two ends.
pub(super) fn raw_between(
    (ours, theirs): (OwnedFd, OwnedFd),
    fresh: bool,
    pace: Pace,
    message: &Rc<Vec<u8>>,
) -> io::Result<Run> {
    let (control, their_control) = sockets(SocketType::SEQPACKET)?;
    let process = raw_receive::spawn(Handle(theirs), Handle(their_control), pace, message.len() as u64, fresh);
    let mut partner = Partner::new((ours, control), process)?;
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (socket, control) = partner.channels()?;
        turn(control, pace, operations, || write_all(&*socket, &message))
    }))
}
