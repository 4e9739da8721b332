//! CPython's multiprocessing queues, by a script that measures itself.

use std::io;

use crate::measure::Run;
use crate::peers::python::script_of;
use crate::rows::queue::CROWD;
use crate::rows::queue::turns::{Figure, Plan};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/peers/queue/queue_peer.py");

pub(super) fn one_to_one(kind: &str, plan: Plan) -> io::Result<Run> {
    if plan.figure == Figure::Stream {
        let (messages, length) = (plan.what.messages(), plan.what.length() as u32 / plan.what.messages());
        return script_of(SCRIPT, &["stream", kind, &messages.to_string(), &length.to_string()]);
    }
    script_of(SCRIPT, &["asleep", kind, &plan.pause.as_micros().to_string()])
}

pub(super) fn crowd(kind: &str) -> io::Result<Run> {
    script_of(SCRIPT, &["crowd", kind, &CROWD.to_string()])
}

pub(super) fn ping_pong(kind: &str) -> io::Result<Run> {
    script_of(SCRIPT, &["ping-pong", kind])
}
