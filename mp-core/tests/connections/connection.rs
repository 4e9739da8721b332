//! One connection: order, boundaries, waiting, and its end.

use std::thread;
use std::time::Duration;

use mp_core::{RecvError, SendErrorReason, duplex, pipe, wait};
use mp_testing::{PATIENCE, watched};
use serde_bytes::ByteBuf;

const KIB: usize = 1 << 10;

/// Around every border between one way to send a message and another.
const SIZES: [usize; 20] = [
    0,
    1,
    254,
    255,
    16 * KIB - 1,
    16 * KIB,
    16 * KIB + 1,
    64 * KIB - 26,
    64 * KIB - 25,
    64 * KIB - 24,
    64 * KIB - 17,
    64 * KIB - 16,
    64 * KIB - 15,
    64 * KIB,
    64 * KIB + 1,
    256 * KIB - 10,
    256 * KIB - 1,
    256 * KIB,
    256 * KIB + 1,
    KIB * KIB + 3,
];

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 % 251) as u8).collect()
}

fn large() -> ByteBuf {
    ByteBuf::from(vec![9; 128 * KIB])
}

#[test]
fn messages_arrive_in_order_one_by_one() {
    watched(|| {
        let (sender, receiver) = pipe().unwrap();
        for number in 0..100_u32 {
            sender.send((number, "x".repeat(number as usize))).unwrap();
        }
        for number in 0..100 {
            assert_eq!(receiver.recv().unwrap(), (number, "x".repeat(number as usize)));
        }
        assert!(receiver.try_recv().unwrap().is_none());
    });
}

#[test]
fn messages_of_every_size_arrive_whole() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        for size in SIZES {
            sender.send(ByteBuf::from(bytes(size))).unwrap();
            assert!(receiver.recv().unwrap() == bytes(size), "{size} bytes");
        }
    });
}

#[test]
fn plain_bytes_of_every_size_arrive_whole() {
    watched(|| {
        let (sender, receiver) = pipe::<()>().unwrap();
        for size in SIZES {
            sender.send_bytes(&bytes(size)).unwrap();
            assert!(receiver.recv_bytes().unwrap() == bytes(size), "{size} bytes");
            let mut buffer = vec![0xEE; size + 1];
            sender.send_bytes(&bytes(size)).unwrap();
            assert_eq!(receiver.recv_bytes_into(&mut buffer).unwrap(), size);
            assert!(buffer[..size] == bytes(size) && buffer[size] == 0xEE, "{size} bytes");
        }
    });
}

#[test]
fn a_buffer_that_is_too_short_keeps_the_message() {
    watched(|| {
        let (sender, receiver) = pipe::<()>().unwrap();
        for size in [2, 128 * KIB] {
            sender.send_bytes(&bytes(size)).unwrap();
            sender.send_bytes(b"next").unwrap();
            match receiver.recv_bytes_into(&mut [0; 1]) {
                Err(RecvError::BufferTooShort(message)) => assert_eq!(message, bytes(size)),
                other => panic!("{other:?}"),
            }
            let mut buffer = [0; 4];
            assert_eq!(receiver.recv_bytes_into(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer, b"next");
        }
    });
}

#[test]
fn a_full_connection_says_so_and_goes_on_when_drained() {
    watched(|| {
        let (sender, receiver) = pipe::<u32>().unwrap();
        let mut sent = 0;
        let refused = loop {
            match sender.try_send(sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused.reason, SendErrorReason::Full), "{refused:?}");
        assert_eq!(refused.into_inner(), sent);
        assert!(sent > 100, "only {sent} short messages fit");
        let refused = sender.send_timeout(sent, Duration::from_millis(10)).unwrap_err();
        assert!(matches!(refused.reason, SendErrorReason::TimedOut), "{refused:?}");
        assert_eq!(refused.value, sent);
        let refused = sender.send_timeout(sent, Duration::ZERO).unwrap_err();
        assert!(matches!(refused.reason, SendErrorReason::Full | SendErrorReason::TimedOut), "{refused:?}");

        for number in 0..sent {
            assert_eq!(receiver.recv().unwrap(), number);
        }
        assert!(receiver.try_recv().unwrap().is_none());
        sender.try_send(7).unwrap();
        sender.send_timeout(8, Duration::ZERO).unwrap();
        assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (7, 8));
    });
}

#[test]
fn a_sender_that_waits_goes_on_when_there_is_room() {
    watched(|| {
        let (sender, receiver) = pipe::<u32>().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (0..5_000).for_each(|number| sender.send(number).unwrap()));
            (0..5_000).for_each(|number| assert_eq!(receiver.recv().unwrap(), number));
            scope.spawn(|| (0..5_000).for_each(|number| sender.send_timeout(number, Duration::MAX).unwrap()));
            (0..5_000).for_each(|number| assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Some(number)));
        });
    });
}

#[test]
fn receiving_waits_no_longer_than_it_was_told_to() {
    watched(|| {
        let (sender, receiver) = pipe::<u32>().unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap(), None);
        let (result, elapsed) = mp_testing::leaks::timed(|| receiver.recv_timeout(Duration::from_millis(30)).unwrap());
        assert_eq!(result, None);
        assert!(elapsed >= Duration::from_millis(30));
        assert!(!receiver.poll(Some(Duration::from_millis(1))).unwrap());
        sender.send(3).unwrap();
        assert!(receiver.poll(Some(Duration::ZERO)).unwrap() && receiver.poll(None).unwrap());
        assert_eq!(receiver.recv_timeout(Duration::MAX).unwrap(), Some(3));
        drop(sender);
        assert!(receiver.poll(None).unwrap());
        assert!(matches!(receiver.recv_timeout(Duration::MAX), Err(RecvError::Disconnected)));
    });
}

#[test]
fn wait_names_all_that_are_ready_and_nothing_is_read_ahead() {
    watched(|| {
        let (first, first_receiver) = pipe::<u32>().unwrap();
        let (mine, theirs) = duplex::<u32, u32>().unwrap();
        let (_silent, silent_receiver) = pipe::<u32>().unwrap();
        let all: [&dyn std::os::fd::AsFd; 3] = [&first_receiver, &silent_receiver, &theirs];
        assert!(wait(&all, Some(Duration::ZERO)).unwrap().is_empty());
        assert!(wait(&[], Some(Duration::ZERO)).unwrap().is_empty());
        (1..=2).for_each(|number| first.send(number).unwrap());
        mine.send(3).unwrap();
        assert_eq!(wait(&all, None).unwrap(), [0, 2]);
        assert_eq!(first_receiver.recv().unwrap(), 1);
        assert_eq!(theirs.recv().unwrap(), 3);
        // The second message is still seen, though the first was received.
        assert_eq!(wait(&all, None).unwrap(), [0]);
        assert_eq!(first_receiver.recv().unwrap(), 2);
        drop(first);
        assert_eq!(wait(&all, None).unwrap(), [0]);
    });
}

#[test]
fn the_end_comes_after_everything_that_was_sent() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        let second = sender.try_clone().unwrap();
        sender.send(ByteBuf::from(vec![1])).unwrap();
        second.send(large()).unwrap();
        drop(sender);
        second.send(ByteBuf::from(vec![2])).unwrap();
        drop(second);
        let lengths: Vec<usize> = receiver.iter().map(|message| message.unwrap().len()).collect();
        assert_eq!(lengths, [1, 128 * KIB, 1]);
        for _ in 0..3 {
            assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
            assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
        }
        assert_eq!((&receiver).into_iter().count(), 0);
    });
}

#[test]
fn sending_to_nobody_gives_the_value_back() {
    watched(|| {
        let (sender, receiver) = pipe::<String>().unwrap();
        let second = receiver.try_clone().unwrap();
        drop(receiver);
        sender.send("heard".to_owned()).unwrap();
        drop(second);
        for _ in 0..3 {
            let error = sender.send("unheard".to_owned()).unwrap_err();
            assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
            assert_eq!(error.into_inner(), "unheard");
        }
        let large = "x".repeat(128 * KIB);
        let error = sender.try_send(large.clone()).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
        assert_eq!(error.value, large);
        let error = sender.send_bytes(b"unheard").unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
        let error = sender.send_timeout(String::new(), Duration::ZERO).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
    });
}

#[test]
fn a_peer_that_went_without_reading_is_heard_to_the_end() {
    watched(|| {
        let (mine, theirs) = duplex::<u32, ByteBuf>().unwrap();
        mine.send(1).unwrap();
        theirs.send(ByteBuf::from(vec![1])).unwrap();
        theirs.send(large()).unwrap();
        // Message 1 is unread, which makes the kernel report a reset before the rest.
        drop(theirs);
        assert_eq!(mine.recv().unwrap().len(), 1);
        assert_eq!(mine.recv_timeout(PATIENCE).unwrap().unwrap().len(), 128 * KIB);
        assert!(matches!(mine.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(mine.send(2).unwrap_err().reason, SendErrorReason::Disconnected));
    });
}

#[test]
fn a_peer_that_went_without_reading_is_heard_after_a_send_that_fails() {
    watched(|| {
        let (mine, theirs) = duplex::<u32, u32>().unwrap();
        mine.send(1).unwrap();
        theirs.send(11).unwrap();
        drop(theirs);
        for number in 2..4 {
            assert!(matches!(mine.send(number).unwrap_err().reason, SendErrorReason::Disconnected));
        }
        assert_eq!(mine.try_recv().unwrap(), Some(11));
        assert!(matches!(mine.try_recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_split_connection_ends_with_its_second_half() {
    watched(|| {
        let (mine, theirs) = duplex::<u32, String>().unwrap();
        let (sender, receiver) = mine.into_split().unwrap();
        sender.send(1).unwrap();
        theirs.send("one".to_owned()).unwrap();
        assert_eq!((theirs.recv().unwrap(), receiver.recv().unwrap()), (1, "one".to_owned()));
        drop(sender);
        assert!(theirs.try_recv().unwrap().is_none());
        theirs.send("two".to_owned()).unwrap();
        assert_eq!(receiver.recv().unwrap(), "two");
        drop(receiver);
        assert!(matches!(theirs.recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_duplex_carries_both_ways_at_once() {
    watched(|| {
        let (left, right) = duplex::<u64, u64>().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (0..3_000).for_each(|number| left.send(number).unwrap()));
            scope.spawn(|| (0..3_000).for_each(|number| right.send(number * 2).unwrap()));
            scope.spawn(|| (0..3_000).for_each(|number| assert_eq!(right.recv().unwrap(), number)));
            (0..3_000).for_each(|number| assert_eq!(left.recv().unwrap(), number * 2));
        });
        drop(right);
        assert_eq!(left.iter().count(), 0);
    });
}

#[test]
fn a_value_that_cannot_be_encoded_is_given_back_and_nothing_is_sent() {
    watched(|| {
        let (sender, receiver) = pipe::<serde_json::Value>().unwrap();
        // A JSON value is untagged: it goes, but cannot be decoded.
        sender.send(serde_json::json!(1)).unwrap();
        assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
        let (sender, receiver) = pipe::<Stubborn>().unwrap();
        let error = sender.send(Stubborn).unwrap_err();
        assert!(matches!(&error.reason, SendErrorReason::Encode(error) if error.to_string() == "no"), "{error:?}");
        let Stubborn = error.into_inner();
        assert!(receiver.try_recv().unwrap().is_none());
    });
}

struct Stubborn;

impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

impl<'de> serde::Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[test]
fn a_message_of_another_type_is_an_error_and_the_next_one_arrives() {
    watched(|| {
        let (sender, receiver) = pipe::<String>().unwrap();
        sender.send_bytes(&[0xFF]).unwrap();
        sender.send("good".to_owned()).unwrap();
        assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
        assert_eq!(receiver.recv().unwrap(), "good");
        sender.send("text".to_owned()).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), b"\x04\0\0\0\0\0\0\0text");
    });
}
