//! Ends whose socket somebody else has a hand in.

use std::time::Duration;

use mp_core::{Connection, Receiver, duplex, pipe, process_fn};
use mp_testing::scenario;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

#[process_fn]
fn send_after(go: Receiver<()>, connection: Connection<u8, u8>) {
    go.recv().unwrap();
    connection.send(7).unwrap();
}

scenario!(an_end_that_someone_made_non_blocking_still_waits, {
    let (mine, theirs) = duplex::<u8, u8>().unwrap();
    fcntl_setfl(&mine, fcntl_getfl(&mine).unwrap() | OFlags::NONBLOCK).unwrap();
    let (go, when) = pipe().unwrap();
    let process = send_after::spawn(when, theirs).unwrap();
    let waiting = std::thread::spawn(move || mine.recv());
    // However long it takes until the other side has something, waiting is not the end.
    assert!(!mp_testing::holds_within(Duration::from_millis(50), || waiting.is_finished()));
    go.send(()).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap(), 7);
    process.join().unwrap();
});
