//! Memory that processes share: handed over, touched for the first time, locked, and beside copies.
//!
//! Filling a buffer in parts is in [`super::fill`].

use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};
use mp_core::{Connection, Receiver, duplex, pipe, process_fn};
use mp_shm::{Buffer, FrozenBuffer, Value};
use mp_sync::Mutex;
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};

use super::flow::{Pace, raw_between, receive_turns, turn};
use super::resident::available;
use super::round_trip::exchanges;
use super::row;
use super::sync::{alone, mutex_pair};
use crate::measure::{Contender, Row, Run, Scale};
use crate::partner::{Handle, Partner, failed, sockets};

const SIZES: [(&str, usize); 2] = [("64MiB", 64 << 20), ("1GiB", 1 << 30)];

/// What large memory is compared with.
const LITTLE: usize = 1 << 20;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, size) in SIZES {
        rows.push(row(&format!("memory/frozen/{name}"), move |scale| {
            against_little(scale, "FrozenBuffer", size, frozen)
        }));
        rows.push(row(&format!("memory/buffer/{name}"), move |scale| against_little(scale, "Buffer", size, buffer)));
    }
    for (name, size) in SIZES {
        rows.push(row(&format!("memory/populate/{name}"), move |scale| touched(scale, size, true)));
        rows.push(row(&format!("memory/touch/{name}"), move |scale| touched(scale, size, false)));
    }
    rows.push(row("memory/value", |_| {
        static ALONE: Mutex<u64> = Mutex::new(0);
        vec![
            Contender::ours("Value::update", alone(value)),
            Contender::limit("mp_sync::Mutex in a static", 1.5, alone(|| mutex_pair(&ALONE))),
        ]
    }));
    rows.push(row("memory/from-bytes/64MiB", |_| from_bytes(64 << 20)));
    rows
}

/// The memory is there up to three times: with us, with the one beside us, and what of it has not
/// been given back yet.
fn is_too_much(scale: Scale, size: usize) -> bool {
    available() < 3 * size as u64 || scale.quick && size >= 1 << 30
}

/// Large memory against a little of it, in the same hands.
fn against_little(scale: Scale, name: &str, size: usize, run: fn(usize) -> io::Result<Run>) -> Vec<Contender> {
    if is_too_much(scale, size) {
        return Vec::new();
    }
    vec![
        Contender::ours(&format!("{name}, {} MiB", size >> 20), run(size)),
        Contender::limit(&format!("{name}, {} MiB", LITTLE >> 20), 1.5, run(LITTLE)),
    ]
}

/// A value that is in the middle of the memory.
pub(crate) fn middle(bytes: &[u8]) -> u8 {
    bytes.get(bytes.len() / 2).copied().unwrap_or(0)
}

#[process_fn]
fn read_frozen(connection: Connection<u8, FrozenBuffer<u8>>) {
    while let Ok(bytes) = connection.recv() {
        if connection.send(middle(&bytes)).is_err() {
            return;
        }
    }
}

/// A handle goes to another process, which reads a value and answers.
fn frozen(size: usize) -> io::Result<Run> {
    let mut bytes = Buffer::zeroed(size)?;
    bytes.fill(1);
    let bytes = bytes.freeze().map_err(|error| error.source)?;
    let (ours, theirs) = duplex::<FrozenBuffer<u8>, u8>()?;
    let mut partner = Partner::new(ours, read_frozen::spawn(theirs))?;
    Ok(exchanges(None, move || {
        let connection = partner.channels()?;
        connection.send(bytes.clone()).map_err(failed)?;
        connection.recv().map_err(failed).map(drop)
    }))
}

#[process_fn]
fn return_buffer(connection: Connection<Buffer<u8>, Buffer<u8>>) {
    while let Ok(bytes) = connection.recv() {
        black_box(middle(&bytes));
        if connection.send(bytes).is_err() {
            return;
        }
    }
}

/// A buffer goes to another process, which reads a value, and comes back, where a value is read.
/// Each time all of its pages are written beforehand, so that there is something to unmap; that
/// does not count.
fn buffer(size: usize) -> io::Result<Run> {
    let mut at_home = Some(Buffer::zeroed(size)?);
    let (ours, theirs) = duplex::<Buffer<u8>, Buffer<u8>>()?;
    let mut partner = Partner::new(ours, return_buffer::spawn(theirs))?;
    Ok(Box::new(move |operations| {
        let connection = partner.channels()?;
        let mut taken = Duration::ZERO;
        for _ in 0..operations {
            let mut bytes = at_home.take().ok_or(io::ErrorKind::NotConnected)?;
            touch(&mut bytes);
            let start = Instant::now();
            connection.send(bytes).map_err(failed)?;
            let bytes = connection.recv().map_err(failed)?;
            black_box(middle(&bytes));
            taken += start.elapsed();
            at_home = Some(bytes);
        }
        Ok(taken)
    }))
}

/// Writes to each page.
fn touch(bytes: &mut [u8]) {
    black_box(bytes).iter_mut().step_by(rustix::param::page_size()).for_each(|byte| *byte = 1);
}

/// New memory, all of whose pages are written. Giving it back does not count.
fn touched(scale: Scale, size: usize, populate: bool) -> Vec<Contender> {
    if is_too_much(scale, size) {
        return Vec::new();
    }
    let ours = move || {
        let mut bytes = Buffer::zeroed(size)?;
        if populate {
            bytes.populate()?;
        }
        touch(&mut bytes);
        Ok(bytes)
    };
    let anonymous = move |huge: bool| {
        move || {
            let mut bytes = MmapMut::map_anon(size)?;
            if huge {
                bytes.advise(Advice::HugePage)?;
            }
            touch(&mut bytes);
            Ok(bytes)
        }
    };
    let name = if populate { "Buffer, populated and touched" } else { "Buffer, touched" };
    vec![
        Contender::ours(name, made(ours)),
        Contender::limit("anonymous memory", populate.then_some(1.1), made(anonymous(false))),
        Contender::limit("anonymous memory, huge pages if there are", None, made(anonymous(true))),
    ]
}

/// How long it takes to make something; dropping it does not count.
pub(super) fn made<M>(mut make: impl FnMut() -> io::Result<M> + 'static) -> io::Result<Run> {
    Ok(Box::new(move |operations| {
        let mut taken = Duration::ZERO;
        for _ in 0..operations {
            let start = Instant::now();
            let made = make()?;
            taken += start.elapsed();
            drop(black_box(made));
        }
        Ok(taken)
    }))
}

fn value() -> io::Result<impl FnMut()> {
    let value = Value::new(0_u64)?;
    Ok(move || drop(black_box(&value).update(|value| *value += 1)))
}

/// Bytes that are in ordinary memory get to another process, which reads one of them.
fn from_bytes(size: usize) -> Vec<Contender> {
    let bytes = Rc::new(vec![0x5a; size]);
    let piped = || -> io::Result<_> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((writer, reader))
    };
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("FrozenBuffer::from_slice", frozen_from(&bytes)),
        Contender::limit(
            "copied through a socketpair, SOCK_STREAM",
            None,
            sockets(SocketType::STREAM).and_then(|ends| raw_between(ends, true, Pace::Stream, &bytes)),
        ),
        Contender::limit(
            "copied through a pipe",
            None,
            piped().and_then(|ends| raw_between(ends, true, Pace::Stream, &bytes)),
        ),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::from_bytes(&bytes));
    contenders
}

#[process_fn]
fn receive_frozen(messages: Receiver<FrozenBuffer<u8>>, control: Handle) {
    receive_turns(&control, Pace::Stream, || messages.recv().map(|bytes| black_box(middle(&bytes))).is_ok());
}

fn frozen_from(bytes: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (sender, receiver) = pipe::<FrozenBuffer<u8>>()?;
    let (control, theirs) = sockets(SocketType::SEQPACKET)?;
    let process = receive_frozen::spawn(receiver, Handle(theirs));
    let mut partner = Partner::new((sender, control), process)?;
    let bytes = Rc::clone(bytes);
    Ok(Box::new(move |operations| {
        let (sender, control) = partner.channels()?;
        turn(control, Pace::Stream, operations, || sender.send(FrozenBuffer::from_slice(&bytes)?).map_err(failed))
    }))
}
