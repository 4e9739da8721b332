//! What runs in a worker process.

use mp_core::{Connection, Outcome, SendErrorReason, process_fn};

use crate::link::{Reply, Request};

/// Runs tasks one after another until the pool says to end, or is gone.
#[process_fn]
pub(crate) fn worker(link: Connection<Reply, Request>) {
    if link.send(Reply::Ready).is_err() {
        return;
    }
    for request in link.iter() {
        // A request that cannot be decoded cannot be answered either; ending tells the pool.
        let request = request.expect("the pool sends requests");
        let Request::Run { task, call } = request else { return };
        if !answer(&link, task, call.run()) {
            return;
        }
    }
}

/// Returns false if there is no pool any more.
fn answer(link: &Connection<Reply, Request>, task: u64, outcome: Outcome) -> bool {
    let error = match link.send(Reply::Done { task, outcome }) {
        Ok(()) => return true,
        Err(error) => error.reason,
    };
    match error {
        SendErrorReason::Disconnected => false,
        // No descriptor was free to send the handles of the value with.
        SendErrorReason::Encode(error) => {
            link.send(Reply::Done { task, outcome: Outcome::UnencodableResult(error) }).is_ok()
        }
        error => panic!("the result of a task could not be sent: {error}"),
    }
}
