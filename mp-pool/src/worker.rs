//! What runs in a worker process.

use mp_core::raw::Outcome;
use mp_core::{Connection, SendErrorReason, process_fn};

use crate::error::with_causes;
use crate::protocol::{Reply, Request};

/// Runs tasks one after another until the pool says to end, or is gone.
#[process_fn]
pub(crate) fn worker(link: Connection<Reply, Request>) {
    if link.send(Reply::Ready).is_err() {
        return;
    }
    for request in link.iter() {
        let goes_on = match request {
            Ok(Request::Run { task, call }) => answer(&link, task, call.run()),
            Ok(Request::Exit) => false,
            // It is gone; the pool knows which task it was.
            Err(error) => link.send(Reply::Unreadable(with_causes(&error))).is_ok(),
        };
        if !goes_on {
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
        error => panic!("the result of a task could not be sent: {}", with_causes(&error)),
    }
}
