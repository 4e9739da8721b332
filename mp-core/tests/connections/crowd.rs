//! Many processes at one connection.

use std::collections::BTreeMap;
use std::time::Duration;

use mp_core::{Receiver, RecvError, SendErrorReason, Sender, pipe, process_fn};
use mp_testing::{PATIENCE, PROMPTLY, scenario};
use serde_bytes::ByteBuf;

/// A message: who sent it, which it is, and as many bytes of that as `size` says.
type Numbered = (u8, u32, ByteBuf);

/// Short ones, and a large one now and then.
fn size(number: u32) -> usize {
    match number % 16 {
        0 => 300_000,
        8 => 40_000,
        small => small as usize,
    }
}

#[process_fn]
fn send_numbered(sender: Sender<Numbered>, who: u8, count: u32) {
    for number in 0..count {
        sender.send((who, number, ByteBuf::from(vec![who; size(number)]))).unwrap();
    }
}

scenario!(messages_of_many_senders_never_mix_and_none_is_lost, {
    const SENDERS: u8 = 6;
    const COUNT: u32 = 300;
    let (sender, receiver) = pipe().unwrap();
    let processes: Vec<_> =
        (1..=SENDERS).map(|who| send_numbered::spawn(sender.try_clone().unwrap(), who, COUNT).unwrap()).collect();
    drop(sender);
    let mut next = BTreeMap::new();
    for message in &receiver {
        let (who, number, bytes) = message.unwrap();
        let expected = next.entry(who).or_insert(0);
        assert_eq!(number, *expected, "of sender {who}");
        *expected += 1;
        assert!(bytes.len() == size(number) && bytes.iter().all(|&byte| byte == who), "{who} {number}");
    }
    assert_eq!(next, (1..=SENDERS).map(|who| (who, COUNT)).collect());
    processes.into_iter().for_each(|process| process.join().unwrap());
});

#[process_fn]
fn receive_some(receiver: Receiver<Numbered>) -> Vec<u32> {
    receiver.iter().map(|message| message.unwrap().1).collect()
}

scenario!(receivers_share_one_queue, {
    let (sender, receiver) = pipe().unwrap();
    let processes: Vec<_> = (0..4).map(|_| receive_some::spawn(receiver.try_clone().unwrap()).unwrap()).collect();
    drop(receiver);
    for number in 0..1_000 {
        sender.send((0, number, ByteBuf::from(vec![0; size(number)]))).unwrap();
    }
    drop(sender);
    let mut received = Vec::new();
    for process in processes {
        let some = process.join().unwrap();
        assert!(some.is_sorted());
        received.extend(some);
    }
    received.sort_unstable();
    assert_eq!(received, (0..1_000).collect::<Vec<_>>());
});

#[process_fn]
fn send_for_ever(sender: Sender<Numbered>) {
    for number in 0.. {
        sender.send((1, number, ByteBuf::from(vec![1; size(number)]))).unwrap();
    }
}

scenario!(a_sender_that_is_killed_leaves_whole_messages_and_then_the_end, {
    for round in 0..20_u64 {
        let (sender, receiver) = pipe().unwrap();
        let process = send_for_ever::spawn(sender).unwrap();
        assert_eq!(receiver.recv().unwrap().1, 0);
        std::thread::sleep(Duration::from_micros(round * 250));
        process.kill().unwrap();
        process.join().unwrap_err();
        for (expected, message) in (1..).zip(&receiver) {
            let (_, number, bytes) = message.unwrap();
            assert_eq!(number, expected);
            assert!(bytes.len() == size(number) && bytes.iter().all(|&byte| byte == 1));
        }
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    }
});

scenario!(a_receiver_that_is_killed_is_noticed_by_a_sender_that_waits, {
    for large in [false, true] {
        let (sender, receiver) = pipe().unwrap();
        let process = hold::spawn(receiver).unwrap();
        let bytes = move || ByteBuf::from(vec![0; if large { 300_000 } else { 1 }]);
        while sender.try_send((0, 0, bytes())).is_ok() {}
        let waiting = std::thread::spawn(move || sender.send((0, 0, bytes())).unwrap_err().reason);
        process.kill().unwrap();
        process.join().unwrap_err();
        assert!(matches!(waiting.join().unwrap(), SendErrorReason::Disconnected));
    }
});

#[process_fn]
fn hold(_receiver: Receiver<Numbered>) {
    loop {
        std::thread::park();
    }
}

scenario!(a_receiver_learns_promptly_that_the_only_sender_was_killed, {
    let (sender, receiver) = pipe().unwrap();
    let process = hold_sender::spawn(sender).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    process.kill().unwrap();
    assert!(matches!(receiver.recv_timeout(PROMPTLY), Err(RecvError::Disconnected)));
    process.join().unwrap_err();
});

#[process_fn]
fn hold_sender(sender: Sender<u8>) {
    sender.send(0).unwrap();
    loop {
        std::thread::park();
    }
}

#[process_fn]
fn relay(from: Receiver<u64>, to: Sender<u64>) {
    for number in &from {
        to.send(number.unwrap() + 1).unwrap();
    }
}

scenario!(a_chain_of_processes_passes_everything_on, {
    let (first, mut last) = pipe().unwrap();
    let mut processes = Vec::new();
    for _ in 0..5 {
        let (to, next) = pipe().unwrap();
        processes.push(relay::spawn(last, to).unwrap());
        last = next;
    }
    let sending = std::thread::spawn(move || (0..2_000_u64).for_each(|number| first.send(number).unwrap()));
    for number in 0..2_000_u64 {
        assert_eq!(last.recv().unwrap(), number + 5);
    }
    sending.join().unwrap();
    assert!(matches!(last.recv(), Err(RecvError::Disconnected)));
    processes.into_iter().for_each(|process| process.join().unwrap());
});
