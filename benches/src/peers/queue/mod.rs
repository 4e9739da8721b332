//! Queues of other libraries, and CPython's.
//!
//! ipc-channel has one receiver for each channel, and what is published with iceoryx2 goes to every
//! subscriber, so neither shares messages out among several receivers.

mod iceoryx2;
mod ipc_channel;
mod python;

use self::iceoryx2::Waiting;
use super::peer;
use crate::measure::Contender;
use crate::rows::queue::turns::{Figure, Plan, What};

pub(crate) fn one_to_one(plan: Plan) -> Vec<Contender> {
    let mut contenders = vec![peer("ipc-channel, bytes", ipc_channel::one_to_one(plan))];
    if plan.figure == Figure::Stream {
        let name = if let What::Bytes(_) = plan.what { "iceoryx2, polled, read in place" } else { "iceoryx2, polled" };
        contenders.push(peer(name, iceoryx2::one_to_one(plan, Waiting::Polls, false)));
    }
    if let What::Bytes(_) = plan.what {
        contenders.push(peer("iceoryx2, polled, copied out", iceoryx2::one_to_one(plan, Waiting::Polls, true)));
    }
    contenders.push(peer("iceoryx2, events", iceoryx2::one_to_one(plan, Waiting::Sleeps, true)));
    if plan.figure != Figure::Idle {
        contenders.push(peer("CPython, Queue", python::one_to_one("Queue", plan)));
        contenders.push(peer("CPython, SimpleQueue", python::one_to_one("SimpleQueue", plan)));
    }
    contenders
}

pub(crate) fn crowd() -> Vec<Contender> {
    vec![peer("CPython, Queue", python::crowd("Queue")), peer("CPython, SimpleQueue", python::crowd("SimpleQueue"))]
}

pub(crate) fn ping_pong() -> Vec<Contender> {
    vec![
        peer("ipc-channel", super::ipc_channel::round_trip(None)),
        peer("iceoryx2, events", iceoryx2::exchanges(Waiting::Sleeps)),
        peer("CPython, Queue", python::ping_pong("Queue")),
        peer("CPython, SimpleQueue", python::ping_pong("SimpleQueue")),
    ]
}

pub(crate) fn polled() -> Vec<Contender> {
    vec![peer("iceoryx2, polled", iceoryx2::exchanges(Waiting::Polls))]
}
