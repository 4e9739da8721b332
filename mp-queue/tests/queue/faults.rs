//! Producers and consumers that are killed or stopped.

use mp_core::process_fn;
use mp_queue::{PutErrorReason, Queue};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PROMPTLY, eventually, scenario};
use serde_bytes::ByteBuf;

use crate::{next, refused};

fn numbered(number: u8) -> ByteBuf {
    ByteBuf::from(vec![number; 200])
}

#[process_fn]
fn puts_a_batch(queue: Queue<ByteBuf>) {
    queue.put_many((0..60).map(numbered)).unwrap();
}

// What it knew of the consumer is older than the ring is long.
scenario!(a_producer_that_is_killed_in_the_middle_of_a_long_batch_leaves_what_it_published, {
    let queue = Queue::with_bytes(4096).unwrap();
    let child = puts_a_batch::spawn(queue.clone()).unwrap();
    for number in 0..40 {
        assert!(next(&queue) == numbered(number));
    }
    eventually("it waits for room", || sleeps_on_a_futex(child.pid()) && queue.is_full());
    child.kill().unwrap();
    child.join().unwrap_err();
    let left = queue.len();
    refused(queue.put_timeout(numbered(100), PROMPTLY / 100), |why| {
        matches!(why, PutErrorReason::TimedOut | PutErrorReason::Disconnected)
    });
    assert_eq!(queue.len(), left);
    for number in 40..40 + left {
        assert!(next(&queue) == numbered(number as u8), "{number}");
    }
    queue.put(numbered(101)).unwrap();
    assert!(next(&queue) == numbered(101));
});
