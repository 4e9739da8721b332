//! Other libraries and CPython.
//!
//! crossmist and procspawn start this same executable again, as mp-core does, so they pay the same
//! price for its size.

mod crossmist;
mod ipc_channel;
pub(crate) mod pool;
mod procspawn;
mod python;
pub(crate) mod queue;

use std::rc::Rc;
use std::time::Duration;

use crate::measure::{Contender, Role};
use crate::rows::Pace;
use crate::rows::manager::{Access, KEYS};

pub(crate) fn init() {
    ::crossmist::init();
    ::procspawn::init();
}

pub(crate) fn spawn() -> Vec<Contender> {
    vec![
        peer("crossmist", crossmist::spawn()),
        peer("procspawn", Ok(procspawn::spawn())),
        peer("CPython, fork", python::script(&["spawn", "fork"])),
        peer("CPython, forkserver", python::script(&["spawn", "forkserver"])),
        peer("CPython, spawn", python::script(&["spawn", "spawn"])),
    ]
}

pub(crate) fn fork_server() -> Vec<Contender> {
    vec![Contender::limit("CPython, forkserver", 0.3, python::script(&["spawn", "forkserver"]))]
}

pub(crate) fn round_trip(pause: Option<Duration>) -> Vec<Contender> {
    let micros = pause.unwrap_or_default().as_micros().to_string();
    vec![
        peer("ipc-channel", ipc_channel::round_trip(pause)),
        peer("crossmist", crossmist::round_trip(pause)),
        peer("CPython, Pipe", python::script(&["round-trip", &micros])),
    ]
}

pub(crate) fn flow(pace: Pace, message: &Rc<Vec<u8>>) -> Vec<Contender> {
    let mut contenders = vec![peer("ipc-channel, bytes", ipc_channel::flow(pace, message))];
    if pace == Pace::Stream {
        contenders.push(peer("crossmist", crossmist::flow(message)));
        contenders.push(peer("CPython, send_bytes", python::script(&["flow", &message.len().to_string()])));
    }
    contenders
}

pub(crate) fn from_bytes(bytes: &Rc<Vec<u8>>) -> Vec<Contender> {
    vec![
        peer("ipc-channel, IpcSharedMemory::from_bytes", ipc_channel::from_bytes(bytes)),
        peer("CPython, SharedMemory", python::script(&["shared-memory", &bytes.len().to_string()])),
    ]
}

/// What the goal says: six times the rate.
pub(crate) fn manager(access: Access) -> Contender {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/peers/manager.py");
    let action = if access == Access::Get { "get" } else { "insert" };
    let run = python::script_of(script, &[action, &KEYS.to_string()]);
    Contender::new(Role::Limit(Some(1.0 / 6.0)), "CPython, Manager().dict()", run)
}

fn peer(name: &str, run: std::io::Result<crate::measure::Run>) -> Contender {
    Contender::new(Role::Peer, name, run)
}
