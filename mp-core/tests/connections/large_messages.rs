//! Messages that do not fit into a packet: two are in flight at a time, and only their bytes travel
//! elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mp_core::raw::{LargeMessages, Message};
use mp_core::{RecvError, SendErrorReason, pipe};
use mp_testing::leaks::Resources;
use mp_testing::{PATIENCE, eventually, scenario, watched};
use serde_bytes::ByteBuf;

const KIB: usize = 1 << 10;

fn bytes(size: usize) -> Vec<u8> {
    // Repeated, because byte by byte is slow without optimisation.
    let period: Vec<u8> = (0..251).map(|index| (index * 31 % 251) as u8).collect();
    let mut bytes = period.repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}

fn large() -> ByteBuf {
    ByteBuf::from(vec![9; 256 * KIB])
}

#[test]
fn a_message_of_64_mib_arrives_whole() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        sender.send(ByteBuf::from(bytes(64 << 20))).unwrap();
        assert!(receiver.recv().unwrap() == bytes(64 << 20));
        sender.send_bytes(&bytes(64 << 20)).unwrap();
        assert!(receiver.recv_bytes().unwrap() == bytes(64 << 20));
    });
}

#[test]
fn a_sender_that_waits_is_told_when_the_receiver_goes() {
    watched(|| {
        for size in [1, 128 * KIB] {
            let (sender, receiver) = pipe::<ByteBuf>().unwrap();
            while sender.try_send(ByteBuf::from(bytes(size))).is_ok() {}
            let (reported, report) = mpsc::channel();
            let waiting = thread::spawn(move || {
                reported.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                sender.send(ByteBuf::from(bytes(size))).unwrap_err().reason
            });
            let thread = report.recv().unwrap();
            eventually("the sender waits", || sleeps(thread.get()));
            drop(receiver);
            assert!(matches!(waiting.join().unwrap(), SendErrorReason::Disconnected));
        }
    });
}

fn sleeps(thread: i32) -> bool {
    fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap().contains(") S ")
}

#[test]
fn two_large_messages_are_in_flight_at_most() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        // A thread can send them to itself.
        sender.send(large()).unwrap();
        sender.send(large()).unwrap();
        let refused = sender.try_send(large()).unwrap_err();
        assert!(matches!(refused.reason, SendErrorReason::Full), "{refused:?}");
        assert_eq!(refused.value, large());
        let refused = sender.send_timeout(large(), Duration::from_millis(10)).unwrap_err();
        assert!(matches!(refused.reason, SendErrorReason::TimedOut), "{refused:?}");
        // Short ones go on.
        sender.try_send(ByteBuf::from(vec![1])).unwrap();
        assert_eq!(receiver.recv().unwrap(), large());
        sender.try_send(large()).unwrap();
        assert!(matches!(sender.try_send(large()).unwrap_err().reason, SendErrorReason::Full));
        assert_eq!(receiver.recv().unwrap(), large());
        assert_eq!(receiver.recv().unwrap().len(), 1);
        assert_eq!(receiver.recv().unwrap(), large());
        // Each duplicate is a sender of its own.
        let second = sender.try_clone().unwrap();
        sender.try_send(large()).unwrap();
        sender.try_send(large()).unwrap();
        second.try_send(large()).unwrap();
        assert_eq!(receiver.recv().unwrap(), large());
        assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (large(), large()));
    });
}

/// The pages of a message are written again by the next one, the length of which differs.
#[test]
fn messages_that_use_the_same_memory_do_not_mix() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        let receiving = thread::spawn(move || receiver.iter().map(|message| message.unwrap()).collect::<Vec<_>>());
        let message = |place: usize| ByteBuf::from(vec![place as u8; 200 * KIB + place * 37 * KIB % (700 * KIB)]);
        for place in 0..100 {
            sender.send(message(place)).unwrap();
        }
        drop(sender);
        let received = receiving.join().unwrap();
        assert_eq!(received.len(), 100);
        for (place, received) in received.iter().enumerate() {
            assert!(*received == message(place), "message {place} is another one");
        }
    });
}

/// The kernel refuses a packet that is longer than the socket's buffer.
#[test]
fn a_message_for_which_the_system_has_no_packet_goes_into_a_file() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&sender, 8 << 10).unwrap();
        for round in 0..3 {
            let message = ByteBuf::from(bytes(100 * KIB + round));
            sender.send(message.clone()).unwrap();
            sender.try_send(message.clone()).unwrap();
            assert!(receiver.recv().unwrap() == message && receiver.recv().unwrap() == message);
            sender.send_bytes(&message).unwrap();
            assert!(receiver.recv_bytes().unwrap() == *message);
        }
    });
}

scenario!(the_child_of_a_fork_writes_into_no_message_of_its_parent, {
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    let message = |byte: u8| ByteBuf::from(vec![byte; 1 << 20]);
    for byte in 0..3 {
        sender.send(message(byte)).unwrap();
        assert!(receiver.recv().unwrap() == message(byte));
    }
    // SAFETY: this process has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    sender.send(message(if child == 0 { 10 } else { 20 })).unwrap();
    if child == 0 {
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(0) };
    }
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
    let mut received = [receiver.recv().unwrap(), receiver.recv().unwrap()];
    received.sort();
    assert!(received == [message(10), message(20)]);
});

#[test]
fn a_large_message_does_not_wait_for_that_of_another_thread_beyond_its_patience() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        sender.send(large()).unwrap();
        sender.send(large()).unwrap();
        thread::scope(|scope| {
            let (reported, report) = mpsc::channel();
            let sender = &sender;
            let waiting = scope.spawn(move || {
                reported.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                sender.send(large()).unwrap();
            });
            let thread = report.recv().unwrap();
            eventually("the other sender waits", || sleeps(thread.get()));
            let (done, end) = mpsc::channel();
            scope.spawn(move || {
                let reasons = [
                    sender.try_send(large()).unwrap_err().reason,
                    sender.send_timeout(large(), Duration::from_millis(10)).unwrap_err().reason,
                ];
                done.send(reasons).unwrap();
            });
            // If not, receiving below lets the threads go, so that the test fails and does not
            // hang.
            let reasons = end.recv_timeout(PATIENCE);
            for _ in 0..3 {
                receiver.recv().unwrap();
            }
            waiting.join().unwrap();
            let reasons = reasons.expect("they waited for the other thread");
            assert!(matches!(reasons, [SendErrorReason::Full, SendErrorReason::TimedOut]), "{reasons:?}");
        });
    });
}

#[test]
fn many_threads_send_large_messages_through_one_end() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        thread::scope(|scope| {
            for number in 1..=4_u8 {
                let sender = &sender;
                scope.spawn(move || {
                    for size in [65 * KIB, 3, 300 * KIB, 70 * KIB, 0] {
                        sender.send(ByteBuf::from(vec![number; size])).unwrap();
                    }
                });
            }
            let messages: Vec<_> = (0..20).map(|_| receiver.recv().unwrap()).collect();
            assert!(messages.iter().all(|message| message.iter().all(|byte| *byte == message[0])));
            for number in 1..=4 {
                let of_one = messages.iter().filter(|message| message.first() == Some(&number));
                let sizes: Vec<_> = of_one.map(|message| message.len()).collect();
                assert_eq!(sizes, [65 * KIB, 3, 300 * KIB, 70 * KIB]);
            }
        });
    });
}

scenario!(messages_beyond_the_limit_are_refused_on_both_sides, {
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    sender.send(ByteBuf::from(bytes(1 << 20))).unwrap();
    mp_core::set_message_limit(128 << 10);
    sender.send(ByteBuf::from(vec![1])).unwrap();
    match receiver.recv() {
        Err(RecvError::TooLarge { length, limit }) => assert_eq!((length, limit), ((1 << 20) + 8, 128 << 10)),
        other => panic!("{other:?}"),
    }
    assert_eq!(receiver.recv().unwrap().len(), 1);
    for size in [128 * KIB, 1 << 20] {
        let error = sender.send(ByteBuf::from(bytes(size))).unwrap_err();
        assert_eq!(error.value.len(), size);
        assert!(matches!(error.reason, SendErrorReason::Encode(error) if error.is_too_large()));
        let error = sender.send_bytes(&bytes(size + 1)).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Encode(error) if error.is_too_large()));
    }
    sender.send_bytes(&bytes(128 * KIB)).unwrap();
    assert_eq!(receiver.recv_bytes().unwrap().len(), 128 * KIB);
});

scenario!(what_was_never_received_leaves_nothing, {
    let before = Resources::of_this_process();
    let (sender, receiver) = pipe::<(ByteBuf, Option<mp_core::Sender<u8>>)>().unwrap();
    let (inner, inner_receiver) = pipe::<u8>().unwrap();
    sender.send((ByteBuf::new(), Some(inner))).unwrap();
    sender.send((large(), None)).unwrap();
    drop(receiver);
    // The end that was under way is closed with the connection that carried it.
    assert!(matches!(inner_receiver.recv(), Err(RecvError::Disconnected)));
    drop((sender, inner_receiver));
    assert_eq!(Resources::of_this_process(), before);
});

/// The memory files of messages that this process has open.
fn files() -> BTreeSet<u64> {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let of_messages = open.filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:mp-message"))
    });
    of_messages.map(|path| fs::metadata(path).unwrap().ino()).collect()
}

scenario!(the_memory_of_a_nested_message_is_used_again_when_nobody_has_the_message, {
    let large = LargeMessages::default();
    let value = |number: u8| ByteBuf::from(vec![number; 2 << 20]);
    let message = |number: u8| {
        let appended = Message::append(&value(number), &mut Vec::new(), KIB, Some(&large)).unwrap();
        appended.expect("it is long")
    };
    let is_whole = |message: Message, number: u8| message.decode::<ByteBuf>().unwrap() == value(number);
    let mut used = BTreeSet::new();
    for number in 0..10 {
        let message = message(number);
        used.extend(files());
        assert!(is_whole(message, number));
    }
    assert_eq!(used.len(), 1);
    // Not while somebody has a copy, or another message with it inside.
    let first = message(1);
    let copy = first.copy_with(Vec::new()).unwrap();
    let around = Message::encode(&first).unwrap();
    drop(first);
    for number in 2..5 {
        assert!(is_whole(message(number), number));
    }
    assert!(is_whole(copy, 1));
    assert!(is_whole(message(5), 5));
    let inside = around.decode::<Message>().unwrap();
    assert!(is_whole(message(6), 6));
    assert!(is_whole(inside, 1));
    // More than are used again, and what is never read.
    let many: Vec<_> = (0..20).map(message).collect();
    assert_eq!(files().len(), 20);
    for (number, message) in (0..).zip(many) {
        assert!(number % 2 == 0 || is_whole(message, number));
    }
    let last = message(7);
    assert!(files().len() <= 16);
    assert!(is_whole(last, 7));
    // If too many are lent, a message is on the heap up to 1 MiB, without a descriptor.
    let short = ByteBuf::from(vec![8; 20 * KIB]);
    let many: Vec<_> = (0..20)
        .map(|_| Message::append(&short, &mut Vec::new(), KIB, Some(&large)).unwrap().expect("it is long"))
        .collect();
    assert_eq!(files().len(), 16);
    drop(large);
    for message in many {
        assert_eq!(message.decode::<ByteBuf>().unwrap(), short);
    }
    assert!(files().is_empty());
});
