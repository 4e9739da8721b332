//! Queues between processes and threads.

mod awaiting;
mod batches;
mod behaviour;
mod closing;
mod ends;
mod faults;
mod hostile;
mod idle;
mod messages;
mod model;
mod ring;
mod stopped;
mod tasks;
mod travel;

use std::fmt::Debug;
use std::os::unix::net::UnixStream;

use mp_queue::{Consumer, Producer, PutError, PutErrorReason, Queue};
use mp_testing::PATIENCE;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Gets a value, and fails if none comes in time.
#[track_caller]
fn soon<T: DeserializeOwned>(queue: &Consumer<T>) -> T {
    queue.get_timeout(PATIENCE).unwrap().expect("a value comes")
}

/// The same of a whole queue.
#[track_caller]
fn next<T: DeserializeOwned>(queue: &Queue<T>) -> T {
    queue.get_timeout(PATIENCE).unwrap().expect("a value comes")
}

/// Puts a value, and fails if there is no room in time.
#[track_caller]
fn put_soon<T: Serialize>(queue: &Producer<T>, value: T) {
    queue.put_timeout(value, PATIENCE).unwrap();
}

/// The value that came back, with the reason that `is` says.
#[track_caller]
fn refused<T: Debug>(result: Result<(), PutError<T>>, is: impl FnOnce(&PutErrorReason) -> bool) -> T {
    let PutError { value, reason } = result.expect_err("it is refused");
    assert!(is(&reason), "{value:?} was refused because {reason:?}");
    value
}

/// Tells whether nobody can receive any longer.
///
/// The kernel looks for sockets that hold each other when some socket is closed, so one is closed
/// here. It does not wait where the pipe is full, so that the kernel has time to find them.
fn has_no_receiver(sender: &mp_core::Sender<()>) -> bool {
    drop(UnixStream::pair().unwrap());
    matches!(sender.try_send(()), Err(error) if matches!(error.reason, mp_core::SendErrorReason::Disconnected))
}
