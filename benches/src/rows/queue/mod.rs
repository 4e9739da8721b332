//! Queues: many messages from one process to another, from several to several, and single ones.

mod kernel;
mod ours;
pub(super) mod ring;
mod threads;
pub(crate) mod turns;

use std::time::Duration;

use rustix::net::SocketType;

use self::turns::{Figure, Plan, What};
use super::round_trip::{PAUSE, PAUSED};
use super::{pinned, row};
use crate::measure::{Contender, Row, Scale};

/// How many processes send, and how many receive, where there are several.
pub(crate) const CROWD: usize = 4;

const STREAMS: [(&str, What); 4] =
    [("64B", What::Small), ("64B-by-64", What::Batch), ("4KiB", What::Bytes(4 << 10)), ("1MiB", What::Bytes(1 << 20))];

pub(super) fn rows() -> Vec<Row> {
    let asleep = |what| Plan { what, figure: Figure::Arrival, pause: PAUSE };
    let mut rows = Vec::new();
    for (name, what) in STREAMS {
        both(&mut rows, &format!("queue/{name}"), move |_| queue(Plan::stream(what)));
        both(&mut rows, &format!("ring/{name}"), move |_| ring(Plan::stream(what)));
    }
    both(&mut rows, "queue/64B-4-to-4", |_| crowd());
    let before = rows.len();
    both(&mut rows, "queue/asleep", move |_| queue(asleep(What::Small)));
    both(&mut rows, "ring/asleep", move |_| ring(asleep(What::Small)));
    rows[before..].iter_mut().for_each(|row| row.operations = PAUSED);
    both(&mut rows, "queue/ping-pong", |_| ping_pong());
    // On one core whoever polls is in the way of what it waits for.
    rows.push(row("queue/polled", |_| polled()));
    rows.push(Row { operations: Some(1), ..row("queue/idle", |scale| queue(idle(scale))) });
    rows
}

/// A row, and the same on one core.
fn both(rows: &mut Vec<Row>, name: &str, contenders: impl Fn(Scale) -> Vec<Contender> + Copy + 'static) {
    rows.push(row(name, contenders));
    rows.push(pinned(name, contenders));
}

fn idle(scale: Scale) -> Plan {
    let pause = if scale.quick { Duration::from_millis(100) } else { Duration::from_secs(1) };
    Plan { what: What::Small, figure: Figure::Idle, pause }
}

fn queue(plan: Plan) -> Vec<Contender> {
    let mut contenders = limits(plan);
    contenders.push(Contender::ours("Queue", ours::one_to_one(plan)));
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::queue::one_to_one(plan));
    contenders
}

fn ring(plan: Plan) -> Vec<Contender> {
    let mut contenders = limits(plan);
    contenders.push(Contender::ours("ring", ring::one_to_one(plan)));
    contenders
}

/// What is there without another library, and crossbeam.
fn limits(plan: Plan) -> Vec<Contender> {
    let packets = || kernel::socketpair(SocketType::SEQPACKET);
    let stream = || kernel::socketpair(SocketType::STREAM);
    // Half of crossbeam's rate, eight times a socket's, and 1.3 times as long as a futex.
    let (crossbeam, socket) =
        if plan.what == What::Small && plan.figure == Figure::Stream { (Some(2.0), Some(0.125)) } else { (None, None) };
    let mut contenders = Vec::new();
    match (plan.figure, plan.what) {
        (Figure::Stream, What::Bytes(length)) => {
            contenders.push(Contender::limit("one copy of memory", None, kernel::copy(length as usize)));
        }
        (Figure::Stream, _) => {}
        (Figure::Arrival, _) => contenders.push(Contender::limit("a futex", 1.3, kernel::futex(plan))),
        (Figure::Idle, _) => contenders.push(Contender::limit("a futex", None, kernel::futex(plan))),
    }
    // The processor time of a thread is not that of its process.
    if plan.figure != Figure::Idle {
        contenders.push(Contender::limit("crossbeam, between threads", crossbeam, threads::one_to_one(plan)));
    }
    contenders.push(Contender::limit("socketpair, SOCK_STREAM", socket, kernel::one_to_one(stream(), plan)));
    // A packet cannot be as large as the largest messages.
    if plan.what.length() < 1 << 20 {
        let packets = kernel::one_to_one(packets(), plan);
        contenders.push(Contender::limit("socketpair, SOCK_SEQPACKET", socket, packets));
    }
    contenders.push(Contender::limit("pipe", None, kernel::one_to_one(kernel::pipe(), plan)));
    contenders
}

fn crowd() -> Vec<Contender> {
    let packets = kernel::socketpair(SocketType::SEQPACKET);
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("Queue", ours::crowd()),
        Contender::limit("crossbeam, between threads", None, threads::crowd()),
        Contender::limit("socketpair, SOCK_SEQPACKET", None, kernel::crowd(packets)),
        Contender::limit("pipe", None, kernel::crowd(kernel::pipe())),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::queue::crowd());
    contenders
}

fn ping_pong() -> Vec<Contender> {
    use super::{round_trip, sync};
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("two Queues", ours::exchanges(false)),
        Contender::limit("a futex", None, sync::ping_pong(sync::Means::Futex)),
        Contender::limit("socketpair, SOCK_STREAM", None, round_trip::raw(SocketType::STREAM, None)),
        Contender::limit("socketpair, SOCK_SEQPACKET", None, round_trip::raw(SocketType::SEQPACKET, None)),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::queue::ping_pong());
    contenders
}

fn polled() -> Vec<Contender> {
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("two Queues, try_get", ours::exchanges(true)),
        Contender::limit("a word", None, kernel::polled()),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::queue::polled());
    contenders
}
