//! Messages one way: how long one of a stream of them takes, small and large.
//!
//! A turn is announced over a socket that is the same for everybody, and ends when the receiver has said over it that it
//! has them all.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use mp_core::{Receiver, pipe, process_fn};
use rustix::net::SocketType;
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

const SMALL: [(&str, usize); 3] = [("8B", 8), ("1KiB", 1 << 10), ("60KiB", 60 << 10)];
const LARGE: [(&str, usize); 4] = [("64KiB", 64 << 10), ("1MiB", 1 << 20), ("64MiB", 64 << 20), ("1GiB", 1 << 30)];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, size) in SMALL {
        rows.push(row(&format!("small/value/{name}"), move |_| contenders(Way::Value, size, None)));
        rows.push(row(&format!("small/into/{name}"), move |_| contenders(Way::Into, size, None)));
    }
    rows.push(pinned("small/value/8B", |_| contenders(Way::Value, 8, None)));
    for (name, size) in LARGE {
        for (way, text) in [(Way::Value, "value"), (Way::Fresh, "bytes"), (Way::Into, "into")] {
            // The rate has to be 0.8 of the limit's, so the time may be 1 / 0.8 of it.
            rows.push(row(&format!("large/{text}/{name}"), move |scale| large(way, size, scale)));
        }
    }
    rows.push(pinned("large/bytes/64MiB", |scale| large(Way::Fresh, 64 << 20, scale)));
    rows
}

fn large(way: Way, size: usize, scale: Scale) -> Vec<Contender> {
    // The bytes here, in flight, mapped there, copied there; and as much again for the limit.
    if size >= 1 << 30 && (scale.quick || available() < 6 << 30) {
        return Vec::new();
    }
    contenders(way, size, Some(1.25))
}

fn contenders(way: Way, size: usize, goal: Option<f64>) -> Vec<Contender> {
    let message = Rc::new(vec![0x5a; size]);
    let mut contenders = vec![
        Contender::ours("pipe", ours(way, &message)),
        Contender::limit("socketpair, SOCK_STREAM", goal, raw(SocketType::STREAM, way, &message)),
    ];
    if goal.is_none() {
        // One message is one packet, as with ours.
        let packets = raw(SocketType::SEQPACKET, way, &message);
        contenders.push(Contender::limit("socketpair, SOCK_SEQPACKET", None, packets));
    }
    #[cfg(feature = "peers")]
    if way != Way::Into && size < 1 << 30 {
        contenders.extend(crate::peers::flow(&message));
    }
    contenders
}

/// A turn: announced, sent by `send` one by one, acknowledged.
pub(crate) fn turn(
    control: &OwnedFd,
    operations: u32,
    mut send: impl FnMut() -> io::Result<()>,
) -> io::Result<std::time::Duration> {
    let start = Instant::now();
    write_all(control, &operations.to_le_bytes())?;
    for _ in 0..operations {
        send()?;
    }
    let mut acknowledged = [0; 4];
    if !read_all(control, &mut acknowledged)? {
        return Err(io::Error::other("the receiver came to harm"));
    }
    Ok(start.elapsed())
}

/// The other side of turns: receives by `receive`, until one fails or there are no more.
pub(crate) fn receive_turns(control: &Handle, mut receive: impl FnMut() -> bool) {
    let mut announced = [0; 4];
    while let Ok(true) = read_all(control, &mut announced) {
        if !(0..u32::from_le_bytes(announced)).all(|_| receive()) || write_all(control, &announced).is_err() {
            return;
        }
    }
}

#[process_fn]
fn receive_values(messages: Receiver<ByteBuf>, control: Handle) {
    receive_turns(&control, || messages.recv().map(black_box).is_ok());
}

#[process_fn]
fn receive_bytes(messages: Receiver<ByteBuf>, control: Handle, into: Option<u64>) {
    match into.and_then(|size| usize::try_from(size).ok()) {
        Some(size) => {
            let mut buffer = vec![1; size];
            receive_turns(&control, || messages.recv_bytes_into(black_box(&mut buffer)).is_ok());
        }
        None => receive_turns(&control, || messages.recv_bytes().map(black_box).is_ok()),
    }
}

fn ours(way: Way, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (sender, receiver) = pipe::<ByteBuf>()?;
    let (control, theirs) = sockets(SocketType::SEQPACKET)?;
    let process = match way {
        Way::Value => receive_values::spawn(receiver, Handle(theirs)),
        Way::Fresh => receive_bytes::spawn(receiver, Handle(theirs), None),
        Way::Into => receive_bytes::spawn(receiver, Handle(theirs), Some(message.len() as u64)),
    };
    let mut partner = Partner::new((sender, control), process)?;
    if way == Way::Value {
        let value = ByteBuf::from(message.to_vec());
        return Ok(Box::new(move |operations| {
            let (sender, control) = partner.channels()?;
            turn(control, operations, || sender.send_ref(&value).map_err(failed))
        }));
    }
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (sender, control) = partner.channels()?;
        turn(control, operations, || sender.send_bytes(&message).map_err(failed))
    }))
}

#[process_fn]
fn raw_receive(socket: Handle, control: Handle, size: u64, fresh: bool) {
    let Ok(size) = usize::try_from(size) else { return };
    if fresh {
        // Uninitialised, so that nobody pays for zeros that are overwritten.
        receive_turns(&control, || {
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
        receive_turns(&control, || matches!(read_all(&socket, black_box(&mut buffer)), Ok(true)));
    }
}

fn raw(kind: SocketType, way: Way, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    raw_between(sockets(kind)?, way != Way::Into, message)
}

/// Writes to the first and reads from the second of two ends.
pub(super) fn raw_between((ours, theirs): (OwnedFd, OwnedFd), fresh: bool, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (control, their_control) = sockets(SocketType::SEQPACKET)?;
    let process = raw_receive::spawn(Handle(theirs), Handle(their_control), message.len() as u64, fresh);
    let mut partner = Partner::new((ours, control), process)?;
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (socket, control) = partner.channels()?;
        turn(control, operations, || write_all(&*socket, &message))
    }))
}
