//! Messages of bytes over sockets: boundaries, deadlines, ends, many threads.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{SendErrorReason, duplex, pipe, process_fn, wait};
use mp_listener::{ByteConnection, RecvError, SendError};
use mp_testing::leaks::status_kib;
use mp_testing::limits::with_limit;
use mp_testing::{PATIENCE, scenario, watched};
use rustix::process::Resource;
use serde::{Deserialize, Serialize};

const MIB: usize = 1 << 20;

fn pair() -> (ByteConnection, ByteConnection) {
    let (a, b) = UnixStream::pair().unwrap();
    (a.into(), b.into())
}

/// A connection, and the bare socket at its other end.
fn bare() -> (ByteConnection, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    (a.into(), b)
}

fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = (0..=250_u8).collect::<Vec<_>>().repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}

#[test]
fn messages_of_every_size_arrive_whole_and_in_order() {
    watched(|| {
        let (mut left, mut right) = pair();
        let sizes = [0, 1, 0, 3, 65_535, 65_536, 65_537, 0, MIB, 5 * MIB + 7, 2];
        thread::scope(|scope| {
            let left = &mut left;
            scope.spawn(move || sizes.iter().for_each(|size| left.send_bytes(&bytes(*size)).unwrap()));
            for size in sizes {
                assert!(right.recv_bytes().unwrap() == bytes(size), "{size} bytes");
            }
        });
        let mut buffer = vec![0xEE; 10];
        left.send_bytes(&bytes(9)).unwrap();
        assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), 9);
        assert_eq!((&buffer[..9], buffer[9]), (&bytes(9)[..], 0xEE));
        left.send_bytes(&bytes(11)).unwrap();
        left.send_bytes(b"next").unwrap();
        match right.recv_bytes_into(&mut buffer) {
            Err(RecvError::BufferTooShort(message)) => assert_eq!(message, bytes(11)),
            other => panic!("{other:?}"),
        }
        assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), 4);
    });
}

#[test]
fn a_timeout_between_messages_loses_nothing() {
    watched(|| {
        let (mut connection, mut peer) = bare();
        assert!(!connection.poll(Some(Duration::ZERO)).unwrap());
        let start = Instant::now();
        assert_eq!(connection.recv_bytes_timeout(Duration::from_millis(10)).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_millis(10));
        // Two messages, of which the second has the long form of a header.
        peer.write_all(&[&b"\0\0\0\x05hello"[..], &[0xff; 4], &2_u64.to_be_bytes(), b"yo"].concat()).unwrap();
        assert!(connection.poll(None).unwrap());
        assert_eq!(wait(&[&connection], None).unwrap(), [0]);
        assert_eq!(connection.recv_bytes_timeout(PATIENCE).unwrap().unwrap(), b"hello");
        assert_eq!(connection.recv_bytes_timeout(Duration::ZERO).unwrap().unwrap(), b"yo");
        assert_eq!(connection.recv_bytes_timeout(Duration::ZERO).unwrap(), None);
    });
}

#[test]
fn a_message_that_arrives_too_slowly_closes_the_connection() {
    watched(|| {
        let parts: [&[u8]; 4] = [b"\0", b"\xff\xff\xff\xff\0", b"\0\0\0\x05", b"\0\0\0\x05hel"];
        for part in parts {
            let (mut connection, mut peer) = bare();
            let mut clone = connection.try_clone().unwrap();
            peer.write_all(part).unwrap();
            let start = Instant::now();
            let refused = connection.recv_bytes_timeout(Duration::from_millis(10));
            assert!(matches!(refused, Err(RecvError::Closed)), "{refused:?}");
            assert!(start.elapsed() >= Duration::from_millis(10));
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            assert!(matches!(connection.recv_bytes(), Err(RecvError::Closed)));
            assert!(matches!(connection.send_bytes(b""), Err(SendError::Closed)));
            assert!(matches!(clone.send_bytes(b""), Err(SendError::Disconnected)));
        }
    });
}

#[test]
fn a_message_that_has_no_room_is_not_begun_or_closes_the_connection() {
    watched(|| {
        let (mut connection, mut peer) = bare();
        let mut sent = 0;
        // Small ones until there is no room for another.
        let refused = loop {
            match connection.send_bytes_timeout(&[7; 60], Duration::from_millis(1)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SendError::TimedOut), "{refused:?}");
        let mut wire = vec![0; sent * 64];
        peer.read_exact(&mut wire).unwrap();
        assert!(wire.chunks(64).all(|message| message == [&b"\0\0\0\x3c"[..], &[7; 60]].concat()));

        let large = bytes(4 * MIB);
        let refused = connection.send_bytes_timeout(&large, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(refused, SendError::Closed), "{refused:?}");
        assert!(matches!(connection.send_bytes(b"next"), Err(SendError::Closed)));
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Closed)));
        wire.clear();
        peer.read_to_end(&mut wire).unwrap();
        let expected = [&(large.len() as u32).to_be_bytes(), &large[..]].concat();
        assert!(wire.len() < expected.len() && expected.starts_with(&wire), "{} bytes", wire.len());
    });
}

scenario!(an_error_of_the_system_closes_the_connection_in_the_middle_of_a_message_only, {
    let (mut connection, mut peer) = bare();
    // Under this limit nothing can be waited for.
    with_limit(Resource::Nofile, 0, || {
        let refused = connection.recv_bytes_timeout(PATIENCE).unwrap_err();
        assert!(matches!(refused, RecvError::Io(_)), "{refused:?}");
    });
    connection.send_bytes(b"fine").unwrap();
    with_limit(Resource::Nofile, 0, || {
        let refused = connection.send_bytes_timeout(&bytes(4 * MIB), PATIENCE).unwrap_err();
        assert!(matches!(refused, SendError::Io(_)), "{refused:?}");
    });
    assert!(matches!(connection.send_bytes(b"next"), Err(SendError::Closed)));
    peer.read_to_end(&mut Vec::new()).unwrap();
});

#[test]
fn one_thread_sends_while_another_receives() {
    watched(|| {
        let (left, right) = pair();
        let sizes = || (1..300_000).step_by(9_973);
        thread::scope(|scope| {
            for (mut connection, number) in [(left, 1), (right, 2)] {
                let mut sender = connection.try_clone().unwrap();
                scope.spawn(move || {
                    sizes().for_each(|size| sender.send_bytes(&vec![number; size]).unwrap());
                    sender.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    for size in sizes() {
                        assert!(connection.recv_bytes().unwrap() == vec![3 - number; size]);
                    }
                    assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
                });
            }
        });
    });
}

scenario!(what_is_announced_takes_no_memory_and_what_is_too_long_is_skipped, {
    let (mut connection, mut peer) = bare();
    let before = status_kib("VmPeak");
    // 12 GiB, which is within the limit, of which two bytes come.
    peer.write_all(&[&[0xff; 4][..], &(12_u64 << 30).to_be_bytes(), b"ab"].concat()).unwrap();
    let refused = connection.recv_bytes_timeout(Duration::ZERO);
    assert!(matches!(refused, Err(RecvError::Closed)), "{refused:?}");
    assert!(status_kib("VmPeak") < before + 1024, "{before} KiB before, {} after", status_kib("VmPeak"));

    let (mut connection, mut peer) = bare();
    mp_core::set_message_limit(MIB as u64);
    let refused = connection.send_bytes(&bytes(MIB + 1)).unwrap_err();
    assert!(matches!(refused, SendError::TooLarge { length: 0x10_0001, limit: 0x10_0000 }), "{refused:?}");
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.write_all(&(MIB as u32 + 1).to_be_bytes()).unwrap();
            peer.write_all(&bytes(MIB + 1)).unwrap();
            peer.write_all(b"\0\0\0\x04next").unwrap();
            peer.write_all(&(-2_i32).to_be_bytes()).unwrap();
        });
        match connection.recv_bytes() {
            Err(RecvError::TooLarge { length, limit }) => assert_eq!((length, limit), (MIB as u64 + 1, MIB as u64)),
            other => panic!("{other:?}"),
        }
        assert_eq!(connection.recv_bytes().unwrap(), b"next");
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Malformed(_))));
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Closed)));
    });

    // Skipping takes as many calls as the message takes to arrive.
    let (mut connection, mut peer) = bare();
    peer.write_all(&(MIB as u32 + 1).to_be_bytes()).unwrap();
    assert!(matches!(connection.recv_bytes(), Err(RecvError::TooLarge { .. })));
    for part in bytes(MIB + 1).chunks(60_000) {
        peer.write_all(part).unwrap();
        assert!(connection.recv_bytes_timeout(Duration::ZERO).unwrap().is_none());
    }
    peer.write_all(&[&b"\0\0\0\x04next"[..], &[0xff; 12]].concat()).unwrap();
    assert_eq!(connection.recv_bytes().unwrap(), b"next");
    assert!(matches!(connection.recv_bytes(), Err(RecvError::TooLarge { length: u64::MAX, .. })));
    drop(peer);
    assert!(matches!(connection.recv_bytes(), Err(RecvError::Truncated)));
    assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
});

#[test]
fn a_peer_that_sends_all_the_time_does_not_hold_a_deadline_up() {
    watched(|| {
        let (mut connection, mut peer) = bare();
        // A message that is refused, and never ends.
        peer.write_all(&[&[0xff; 4][..], &u64::MAX.to_be_bytes()].concat()).unwrap();
        assert!(matches!(connection.recv_bytes(), Err(RecvError::TooLarge { .. })));
        peer.write_all(&[0; 100_000]).unwrap();
        assert!(connection.recv_bytes_timeout(Duration::ZERO).unwrap().is_none());
        // It has not skipped all that was there, as it would not with a peer that goes on.
        assert!(connection.poll(Some(Duration::ZERO)).unwrap());
    });
}

#[test]
fn the_end_is_told_from_a_message_that_was_cut_off() {
    watched(|| {
        let (mut left, mut right) = pair();
        left.send_bytes(b"last").unwrap();
        drop(left);
        assert_eq!(right.recv_bytes().unwrap(), b"last");
        assert!(matches!(right.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(right.poll(Some(Duration::ZERO)).unwrap());
        assert!(matches!(right.send_bytes(b"too late"), Err(SendError::Disconnected)));

        let parts: [&[u8]; 3] = [b"\0", b"\0\0\0\x05", b"\0\0\0\x05hel"];
        for part in parts {
            let (mut connection, mut peer) = bare();
            peer.write_all(part).unwrap();
            drop(peer);
            assert!(matches!(connection.recv_bytes(), Err(RecvError::Truncated)));
            assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
        }

        // A peer that leaves something unread resets the connection; what it had sent comes first.
        let (mut left, mut right) = pair();
        right.send_bytes(b"unread").unwrap();
        left.send_bytes(b"last").unwrap();
        drop(left);
        assert_eq!(right.recv_bytes().unwrap(), b"last");
        assert!(matches!(right.recv_bytes(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_sender_and_a_receiver_that_wait_are_told_when_the_peer_goes() {
    watched(|| {
        let (mut left, right) = pair();
        let mut sender = left.try_clone().unwrap();
        thread::scope(|scope| {
            let receiver = scope.spawn(move || left.recv_bytes());
            let sender = scope.spawn(move || sender.send_bytes(&bytes(16 * MIB)));
            // Part of the message is here.
            assert!(right.poll(None).unwrap());
            drop(right);
            assert!(matches!(receiver.join().unwrap(), Err(RecvError::Disconnected)));
            assert!(matches!(sender.join().unwrap(), Err(SendError::Disconnected)));
        });
    });
}

#[process_fn]
fn send_for_ever(mut connection: ByteConnection) {
    for round in 0_u64.. {
        connection.send_bytes(&vec![round as u8; 300_000]).unwrap();
    }
}

scenario!(a_sender_that_is_killed_leaves_whole_messages_and_an_end, {
    for round in 0..10 {
        let (mut mine, theirs) = pair();
        let process = send_for_ever::spawn(theirs).unwrap();
        for number in 0..=round {
            assert!(mine.recv_bytes().unwrap() == vec![number; 300_000]);
        }
        process.kill().unwrap();
        assert!(process.join().is_err());
        let end = loop {
            match mine.recv_bytes() {
                Ok(message) => assert!(message == vec![message[0]; 300_000]),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::Truncated | RecvError::Disconnected), "{end:?}");
        assert!(matches!(mine.recv_bytes(), Err(RecvError::Disconnected)));
    }
});

#[test]
fn a_connection_travels_between_messages_only() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteConnection>().unwrap();
        let (mut connection, mut peer) = bare();
        // A message that is refused, and has not arrived whole.
        peer.write_all(&[&[0xff; 4][..], &(1_u64 << 60).to_be_bytes()].concat()).unwrap();
        assert!(matches!(connection.recv_bytes(), Err(RecvError::TooLarge { .. })));
        let error = sender.send(connection).unwrap_err();
        assert!(matches!(&error.reason, SendErrorReason::Encode(error) if error.to_string().contains("middle")));

        let (connection, mut peer) = bare();
        sender.send(connection).unwrap();
        let mut connection = receiver.recv().unwrap();
        peer.write_all(b"\0\0\0\x01!").unwrap();
        assert_eq!(connection.recv_bytes().unwrap(), b"!");

        // Half sent.
        assert!(connection.send_bytes_timeout(&bytes(4 * MIB), Duration::ZERO).is_err());
        assert!(matches!(sender.send(connection).unwrap_err().reason, SendErrorReason::Encode(_)));
    });
}

/// Looks on the wire like a connection of bytes.
#[derive(Serialize, Deserialize)]
struct Other<T>(T);

#[test]
fn another_kind_of_socket_is_no_connection_of_bytes() {
    watched(|| {
        let (packets, _peer) = duplex::<u8, u8>().unwrap();
        let (sender, receiver) = pipe::<Other<mp_core::Connection<u8, u8>>>().unwrap();
        sender.send(Other(packets)).unwrap();
        let receiver: mp_core::Receiver<Other<ByteConnection>> = {
            let (sender, through) = pipe().unwrap();
            sender.send(receiver).unwrap();
            // The same end of the pipe, taken for one of another type.
            let message = mp_core::raw::Message::encode(&through.recv().unwrap()).unwrap();
            message.decode().unwrap()
        };
        assert!(matches!(receiver.recv(), Err(mp_core::RecvError::Decode(_))));
    });
}

#[test]
fn json_goes_as_a_message() {
    watched(|| {
        let (mut left, mut right) = pair();
        let value = serde_json::json!({ "a": [1, 2.5, null], "b": { "c": "d" } });
        left.send_json(&value).unwrap();
        left.send_bytes(b"no json").unwrap();
        left.send_json("text").unwrap();
        left.send_json(&[1_u8, 2]).unwrap();
        assert_eq!(right.recv_json::<serde_json::Value>().unwrap(), value);
        assert!(matches!(right.recv_json::<serde_json::Value>(), Err(RecvError::Json(_))));
        assert_eq!(right.recv_bytes().unwrap(), b"\"text\"");
        assert_eq!(right.recv_json::<Vec<u8>>().unwrap(), [1, 2]);
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        let error = left.send_json(&unwritable).unwrap_err();
        assert!(matches!(error, SendError::Json(_)), "{error:?}");
        assert!(!right.poll(Some(Duration::ZERO)).unwrap());
    });
}
