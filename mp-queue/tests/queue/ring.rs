//! The ring's two ends.

use mp_core::raw::Message;
use mp_queue::ring;
use mp_queue::{GetError, PutErrorReason};
use mp_testing::scenario;

// The end that arrives does not know what the first one knew.
scenario!(an_end_that_is_passed_on_loses_nothing_that_is_in_the_ring, {
    let (mut sender, mut receiver) = ring::channel::<u64>(4096).unwrap();
    let (mut sent, mut received) = (0, 0);
    for round in 0..20 {
        while sender.try_send(&sent).is_ok() {
            sent += 1;
        }
        sender = Message::encode(&sender).unwrap().decode().unwrap();
        let refused = sender.try_send(&sent);
        assert!(matches!(refused, Err(PutErrorReason::Full)), "round {round}: {refused:?}");
        for _ in 0..100 + 5 * round {
            assert_eq!(receiver.try_recv().unwrap(), Some(received), "round {round}");
            received += 1;
        }
        receiver = Message::encode(&receiver).unwrap().decode().unwrap();
    }
    drop(sender);
    while received < sent {
        assert_eq!(receiver.recv().unwrap(), received);
        received += 1;
    }
    assert!(matches!(receiver.recv(), Err(GetError::Disconnected)));
});
