//! The processor time that a process uses while it waits a second for a message.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use mp_core::{Connection, duplex, process_fn};
use rustix::net::SocketType;
use rustix::time::{ClockId, clock_gettime};

use super::{Row, row};
use crate::measure::{Contender, Run, Scale};
use crate::partner::{Handle, Partner, failed, read_all, sockets, write_all};

pub(super) fn rows() -> Vec<Row> {
    vec![Row { operations: Some(1), ..row("idle-receiver", contenders) }]
}

fn contenders(scale: Scale) -> Vec<Contender> {
    // In a short run the time is not made up for: what waiting costs at its beginning is part of
    // the figure.
    let wait = if scale.quick { Duration::from_millis(100) } else { Duration::from_secs(1) };
    vec![Contender::ours("duplex", ours(wait)), Contender::limit("socketpair, SOCK_SEQPACKET", None, raw(wait))]
}

/// The processor time of this process, in nanoseconds.
pub(super) fn used() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[process_fn]
fn waiter(connection: Connection<u64, ()>) {
    let mut before = used();
    while connection.recv().is_ok() {
        let sent = connection.send(used() - before);
        before = used();
        if sent.is_err() {
            return;
        }
    }
}

fn ours(wait: Duration) -> io::Result<Run> {
    let (ours, theirs) = duplex::<(), u64>()?;
    let mut partner = Partner::new(ours, waiter::spawn(theirs))?;
    Ok(Box::new(move |_| {
        let connection = partner.channels()?;
        sleep(wait);
        connection.send(()).map_err(failed)?;
        Ok(Duration::from_nanos(connection.recv().map_err(failed)?))
    }))
}

#[process_fn]
fn raw_waiter(socket: Handle) {
    let mut before = used();
    let mut buffer = [0; 8];
    while let Ok(true) = read_all(&socket, &mut buffer) {
        let sent = write_all(&socket, &(used() - before).to_le_bytes());
        before = used();
        if sent.is_err() {
            return;
        }
    }
}

fn raw(wait: Duration) -> io::Result<Run> {
    let (ours, theirs) = sockets(SocketType::SEQPACKET)?;
    let mut partner = Partner::new(ours, raw_waiter::spawn(Handle(theirs)))?;
    Ok(Box::new(move |_| {
        let socket = partner.channels()?;
        let mut buffer = [0; 8];
        sleep(wait);
        write_all(&*socket, &buffer)?;
        read_all(&*socket, &mut buffer)?;
        Ok(Duration::from_nanos(u64::from_le_bytes(buffer)))
    }))
}
