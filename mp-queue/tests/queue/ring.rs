//! The ring's two ends.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::process_fn;
use mp_core::raw::Message;
use mp_queue::ring::{self, Receiver, Sender};
use mp_queue::{GetError, PutErrorReason};
use mp_shm::{Shared, ShmSafe};
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::victims::{Held, was_killed};
use mp_testing::{PATIENCE, PROMPTLY, run_for_ever, scenario};
use serde_bytes::ByteBuf;

use crate::messages::Bundle;

const A_WHILE: Duration = Duration::from_millis(150);

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

#[process_fn]
fn echoes(mut from: Receiver<ByteBuf>, mut to: Sender<ByteBuf>) {
    while let Ok(message) = from.recv() {
        to.send(&message).unwrap();
    }
}

fn message(number: usize, length: usize) -> ByteBuf {
    ByteBuf::from((0..length).map(|index| (index * 7 + number) as u8).collect::<Vec<_>>())
}

/// Short ones, some about as long as half a ring of 8 KiB, and some longer than all of it.
fn length(number: usize) -> usize {
    match number % 16 {
        0 => 4070 + number / 16 % 30,
        1 => 10_000 + number,
        2 | 3 => number * 31 % 4000,
        _ => number % 50,
    }
}

scenario!(messages_of_all_lengths_go_to_another_process_and_back, {
    let (mut to, there) = ring::channel(8192).unwrap();
    let (back, mut from) = ring::channel(8192).unwrap();
    let child = echoes::spawn(there, back).unwrap();
    let mut received = 0;
    for number in 0..600 {
        while to.try_send(&message(number, length(number))).is_err() {
            let echo = from.recv_timeout(PATIENCE).unwrap().expect("it comes back");
            assert!(echo == message(received, length(received)), "{received}");
            received += 1;
        }
    }
    drop(to);
    while let Ok(echo) = from.recv() {
        assert!(echo == message(received, length(received)), "{received}");
        received += 1;
    }
    assert_eq!(received, 600);
    child.join().unwrap();
});

#[process_fn]
fn receives_bundles(mut from: Receiver<Bundle>) -> u32 {
    let mut number = 0;
    while let Ok(bundle) = from.recv() {
        bundle.check(number, number % 3, number as usize * 1000 % 9000);
        number += 1;
    }
    number
}

scenario!(descriptors_arrive_with_their_message_in_order, {
    let (mut to, from) = ring::channel(8192).unwrap();
    let child = receives_bundles::spawn(from).unwrap();
    for number in 0..100 {
        let bundle = Bundle::new(number, number % 3, number as usize * 1000 % 9000);
        if number % 2 == 0 { to.send(&bundle).unwrap() } else { to.push(&bundle).unwrap() }
    }
    to.publish().unwrap();
    drop(to);
    assert_eq!(child.join().unwrap(), 100);
});

scenario!(a_message_that_had_no_room_was_not_sent_and_the_order_holds, {
    let (mut to, mut from) = ring::channel::<u64>(4096).unwrap();
    assert_eq!(from.try_recv().unwrap(), None);
    let begun = Instant::now();
    assert_eq!(from.recv_timeout(A_WHILE).unwrap(), None);
    assert!(begun.elapsed() >= A_WHILE);
    let (mut sent, mut received) = (0, 0);
    for round in 0..50 {
        // Some are pushed before, and go with the first one that is sent.
        for _ in 0..round % 4 {
            to.push(&sent).unwrap();
            sent += 1;
        }
        let timeout = Duration::from_millis(round % 2);
        match to.send_timeout(&sent, timeout) {
            Ok(()) => sent += 1,
            Err(reason) => assert!(matches!(reason, PutErrorReason::Full | PutErrorReason::TimedOut), "{reason:?}"),
        }
        while to.try_send(&sent).is_ok() {
            sent += 1;
        }
        assert!(matches!(to.try_send(&u64::MAX), Err(PutErrorReason::Full)));
        assert!(matches!(to.send_timeout(&u64::MAX, Duration::from_millis(1)), Err(PutErrorReason::TimedOut)));
        for _ in 0..40 + round {
            assert_eq!(from.try_recv().unwrap(), Some(received));
            received += 1;
        }
        assert!(!from.is_empty() && !to.is_empty());
    }
    while received < sent {
        assert_eq!(from.recv().unwrap(), received);
        received += 1;
    }
    assert_eq!((from.try_recv().unwrap(), from.is_empty(), to.is_empty()), (None, true, true));
});

scenario!(an_end_that_was_given_away_can_only_be_dropped, {
    let (mut to, mut from) = ring::channel::<u32>(4096).unwrap();
    to.push(&1).unwrap();
    Message::encode(&to).map(drop).expect_err("what was pushed is not published");
    to.publish().unwrap();
    let mut given: Sender<u32> = Message::encode(&to).unwrap().decode().unwrap();
    assert!(matches!(to.send(&2), Err(PutErrorReason::Closed)));
    Message::encode(&to).map(drop).expect_err("it was sent already");
    drop(to);
    given.send(&2).unwrap();
    let mut got: Receiver<u32> = Message::encode(&from).unwrap().decode().unwrap();
    assert!(matches!(from.try_recv(), Err(GetError::Closed)));
    drop(from);
    assert_eq!((got.recv().unwrap(), got.recv().unwrap()), (1, 2));
    drop(got);
    assert!(matches!(given.send(&3), Err(PutErrorReason::Disconnected)));
});

#[process_fn]
fn sends_and_stays(mut to: Sender<u32>, there: mp_core::Sender<()>) {
    (0..3).for_each(|number| to.send(&number).unwrap());
    to.push(&3).unwrap();
    there.send(()).unwrap();
    run_for_ever();
}

#[process_fn]
fn receives_and_stays(mut from: Receiver<u32>, there: mp_core::Sender<()>) {
    assert_eq!(from.recv().unwrap(), 0);
    there.send(()).unwrap();
    run_for_ever();
}

scenario!(an_end_learns_promptly_that_the_other_one_was_killed_or_dropped, {
    let (to, mut from) = ring::channel(4096).unwrap();
    let holder = Held::start(|there| sends_and_stays::call(to, there));
    assert_eq!([from.recv().unwrap(), from.recv().unwrap(), from.recv().unwrap()], [0, 1, 2]);
    // What was pushed and not published is nowhere.
    assert_eq!(from.recv_timeout(A_WHILE).unwrap(), None);
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| from.recv());
        holder.kill();
        assert!(matches!(waiting.join().unwrap(), Err(GetError::Disconnected)));
    });
    assert!(begun.elapsed() < PROMPTLY);

    let (mut to, from) = ring::channel(4096).unwrap();
    to.send(&0).unwrap();
    let holder = Held::start(|there| receives_and_stays::call(from, there));
    while to.try_send(&1).is_ok() {}
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| to.send(&1));
        holder.kill();
        assert!(matches!(waiting.join().unwrap(), Err(PutErrorReason::Disconnected)));
    });
    assert!(begun.elapsed() < PROMPTLY);

    let (mut to, mut from) = ring::channel::<u32>(4096).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(from.recv(), Err(GetError::Disconnected))));
        drop(to);
    });
    (to, from) = ring::channel(4096).unwrap();
    drop(from);
    assert!(matches!(to.send(&1), Err(PutErrorReason::Disconnected)));
});

/// How many messages were sent for certain.
#[repr(C)]
#[derive(ShmSafe)]
struct Sent(AtomicU64);

#[process_fn]
fn sends_until_killed(mut to: Sender<Bundle>, sent: Shared<Sent>) {
    for number in 0.. {
        let (ends, length) = kind(number);
        let bundle = Bundle::new(number, ends, length);
        if number % 5 == 0 {
            // Goes with the next one.
            to.push(&bundle).unwrap();
        } else {
            to.send(&bundle).unwrap();
            sent.0.store(u64::from(number) + 1, SeqCst);
        }
    }
}

fn kind(number: u32) -> (u32, usize) {
    match number % 24 {
        7 => (1, 10),
        11 => (0, 9000),
        13 => (0, 3900),
        few => (0, few as usize),
    }
}

scenario!(what_a_sender_sent_before_it_was_killed_arrives_whole_and_in_order, limit(count(20)), {
    let mut random = Random::new();
    for _ in 0..count(20) {
        let sent = Shared::<Sent>::zeroed().unwrap();
        let (to, mut from) = ring::channel::<Bundle>(8192).unwrap();
        let child = sends_until_killed::spawn(to, sent.clone()).unwrap();
        let mut number = 0;
        let mut receive = |bundle: Bundle| {
            let (ends, length) = kind(number);
            bundle.check(number, ends, length);
            number += 1;
        };
        for _ in 0..random.below(200) {
            receive(from.recv().unwrap());
        }
        busy(random.moment(Duration::from_micros(300)));
        child.kill().unwrap();
        was_killed(child);
        loop {
            match from.recv_timeout(PATIENCE) {
                Ok(bundle) => receive(bundle.expect("the end comes")),
                Err(GetError::Disconnected) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(u64::from(number) >= sent.0.load(SeqCst), "{number} of {}", sent.0.load(SeqCst));
    }
});
