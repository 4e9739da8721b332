//! Eight bytes to another process and back.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mp_core::{Connection, duplex, process_fn};
use rustix::net::SocketType;

use super::{pinned, row};
use crate::measure::{Contender, Row, Run};
use crate::partner::{Handle, Partner, failed, read_all, sockets, write_all};

/// How long the other process is left alone before each message, so that it sleeps.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// How many operations with a pause before each are a turn. With few, most would be the first one
/// after the turns of others, who have had the caches.
pub(super) const PAUSED: Option<u32> = Some(20);

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("round-trip", |_| contenders(None)),
        Row { operations: PAUSED, ..row("round-trip/after-pause", |_| contenders(Some(PAUSE))) },
        pinned("round-trip", |_| contenders(None)),
        Row { operations: PAUSED, ..pinned("round-trip/after-pause", |_| contenders(Some(PAUSE))) },
    ]
}

fn contenders(pause: Option<Duration>) -> Vec<Contender> {
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("duplex", ours(pause)),
        Contender::limit("socketpair, SOCK_STREAM", 1.0, raw(SocketType::STREAM, pause)),
        Contender::limit("socketpair, SOCK_SEQPACKET", 1.0, raw(SocketType::SEQPACKET, pause)),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::round_trip(pause));
    contenders
}

/// A turn of one exchange after another; the pauses between them do not count.
pub(crate) fn exchanges(pause: Option<Duration>, mut exchange: impl FnMut() -> io::Result<()> + 'static) -> Run {
    Box::new(move |operations| {
        let Some(pause) = pause else {
            let start = Instant::now();
            for _ in 0..operations {
                exchange()?;
            }
            return Ok(start.elapsed());
        };
        let mut taken = Duration::ZERO;
        for _ in 0..operations {
            sleep(pause);
            let start = Instant::now();
            exchange()?;
            taken += start.elapsed();
        }
        Ok(taken)
    })
}

#[process_fn]
fn echo(connection: Connection<u64, u64>) {
    while let Ok(value) = connection.recv() {
        if connection.send(value).is_err() {
            return;
        }
    }
}

pub(super) fn ours(pause: Option<Duration>) -> io::Result<Run> {
    let (ours, theirs) = duplex::<u64, u64>()?;
    let mut partner = Partner::new(ours, echo::spawn(theirs))?;
    Ok(exchanges(pause, move || {
        let connection = partner.channels()?;
        connection.send(7).map_err(failed)?;
        connection.recv().map_err(failed).map(drop)
    }))
}

#[process_fn]
fn raw_echo(socket: Handle) {
    let mut buffer = [0; 8];
    while let Ok(true) = read_all(&socket, &mut buffer) {
        if write_all(&socket, &buffer).is_err() {
            return;
        }
    }
}

pub(super) fn raw(kind: SocketType, pause: Option<Duration>) -> io::Result<Run> {
    let (ours, theirs) = sockets(kind)?;
    let mut partner = Partner::new(ours, raw_echo::spawn(Handle(theirs)))?;
    Ok(exchanges(pause, move || {
        let socket = partner.channels()?;
        let mut buffer = [7; 8];
        write_all(&*socket, &buffer)?;
        if read_all(&*socket, &mut buffer)? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }))
}
