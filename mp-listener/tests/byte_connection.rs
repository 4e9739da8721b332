//! Messages of bytes over sockets: boundaries, deadlines, ends, many threads.
#![cfg(feature = "listener")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{ByteConnection, RecvError, SendErrorReason, duplex, pipe, process_fn, wait};
use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use support::leaks::status_kib;
use support::limits::with_limit;
use support::{PATIENCE, scenario, watched};

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
        let (left, right) = pair();
        let sizes = [0, 1, 0, 3, 65_535, 65_536, 65_537, 0, MIB, 5 * MIB + 7, 2];
        thread::scope(|scope| {
            scope.spawn(|| sizes.iter().for_each(|size| left.send_bytes(&bytes(*size)).unwrap()));
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
fn a_timeout_in_the_middle_of_a_message_loses_nothing() {
    watched(|| {
        let (connection, mut peer) = bare();
        let wire = b"\0\0\0\x05hello\0\0\0\x02yo";
        assert!(!connection.poll(Some(Duration::ZERO)).unwrap());
        for byte in &wire[..8] {
            peer.write_all(&[*byte]).unwrap();
            assert!(connection.poll(None).unwrap());
            assert_eq!(wait(&[&connection], None).unwrap(), [0]);
            assert_eq!(connection.try_recv_bytes().unwrap(), None);
        }
        let start = Instant::now();
        assert_eq!(connection.recv_bytes_timeout(Duration::from_millis(10)).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_millis(10));
        peer.write_all(&wire[8..]).unwrap();
        assert_eq!(connection.recv_bytes_timeout(PATIENCE).unwrap().unwrap(), b"hello");
        assert_eq!(connection.try_recv_bytes().unwrap().unwrap(), b"yo");
        assert_eq!(connection.try_recv_bytes().unwrap(), None);
    });
}

#[test]
fn a_message_that_has_no_room_is_not_begun_or_is_finished_later() {
    watched(|| {
        let (connection, mut peer) = bare();
        let large = bytes(4 * MIB);
        let error = connection.try_send_bytes(&large).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Unfinished), "{error:?}");
        // There is no room now, so nothing else is begun.
        let error = connection.try_send_bytes(b"refused").unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Full), "{error:?}");
        let start = Instant::now();
        let error = connection.send_bytes_timeout(b"refused", Duration::from_millis(10)).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::TimedOut), "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(10));
        let error = connection.flush(Some(Duration::ZERO)).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Unfinished), "{error:?}");
        thread::scope(|scope| {
            scope.spawn(|| {
                connection.send_bytes(b"next").unwrap();
                connection.flush(Some(Duration::ZERO)).unwrap();
                connection.shutdown(Shutdown::Write).unwrap();
            });
            let mut wire = Vec::new();
            peer.read_to_end(&mut wire).unwrap();
            let expected = [&(large.len() as u32).to_be_bytes(), &large[..], b"\0\0\0\x04next"].concat();
            assert!(wire == expected, "{} bytes", wire.len());
        });
    });
}

#[test]
fn an_error_in_the_middle_of_a_message_loses_nothing_of_it() {
    scenario!(an_error_in_the_middle_of_a_message_loses_nothing_of_it, {
        let (connection, mut peer) = bare();
        let large = bytes(4 * MIB);
        // Under this limit nothing can be waited for, though it was not the deadline that came.
        with_limit(Resource::Nofile, 0, || {
            let error = connection.send_bytes_timeout(&large, PATIENCE).unwrap_err();
            assert!(matches!(error.reason, SendErrorReason::Unfinished), "{error:?}");
            for _ in 0..2 {
                let error = connection.send_bytes_timeout(b"refused", PATIENCE).unwrap_err();
                assert!(matches!(error.reason, SendErrorReason::Io(_)), "{error:?}");
                let error = connection.flush(Some(PATIENCE)).unwrap_err();
                assert!(matches!(error.reason, SendErrorReason::Io(_)), "{error:?}");
            }
        });
        thread::scope(|scope| {
            let peer = scope.spawn(|| {
                let mut wire = Vec::new();
                peer.read_to_end(&mut wire).unwrap();
                wire
            });
            connection.flush(None).unwrap();
            connection.send_bytes(b"next").unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            let wire = peer.join().unwrap();
            let expected = [&(large.len() as u32).to_be_bytes(), &large[..], b"\0\0\0\x04next"].concat();
            assert!(wire == expected, "{} bytes", wire.len());
        });
    });
}

#[test]
fn a_peer_that_goes_in_the_middle_of_a_message_is_the_end() {
    watched(|| {
        let (connection, peer) = bare();
        let error = connection.try_send_bytes(&bytes(4 * MIB)).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Unfinished), "{error:?}");
        drop(peer);
        for _ in 0..2 {
            let error = connection.send_bytes(b"next").unwrap_err();
            assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
        }
        // Of the rest nothing is left to be sent.
        connection.flush(None).unwrap();
    });
}

#[test]
fn flush_finishes_a_message() {
    watched(|| {
        let (left, right) = pair();
        let large = bytes(4 * MIB);
        assert!(left.send_bytes_timeout(&large, Duration::from_millis(1)).is_err());
        thread::scope(|scope| {
            scope.spawn(|| left.flush(None).unwrap());
            assert!(right.recv_bytes().unwrap() == large);
        });
        assert!(right.try_recv_bytes().unwrap().is_none());
    });
}

#[test]
fn a_thread_does_not_wait_for_another_beyond_its_patience() {
    watched(|| {
        let (left, right) = pair();
        let large = bytes(8 * MIB);
        thread::scope(|scope| {
            let sender = scope.spawn(|| left.send_bytes(&large).unwrap());
            let receiver = scope.spawn(|| left.recv_bytes().unwrap());
            // They wait, or have not begun; either way these come back, and nothing of them is sent into the other message.
            assert!(right.poll(None).unwrap());
            for _ in 0..50 {
                let error = left.send_bytes_timeout(&large, Duration::from_millis(1)).unwrap_err();
                assert!(matches!(error.reason, SendErrorReason::TimedOut), "{error:?}");
                assert!(left.recv_bytes_timeout(Duration::from_millis(1)).unwrap().is_none());
            }
            assert!(right.recv_bytes().unwrap() == large);
            right.send_bytes(b"hello").unwrap();
            sender.join().unwrap();
            assert_eq!(receiver.join().unwrap(), b"hello");
        });
        assert!(right.try_recv_bytes().unwrap().is_none());
    });
}

#[test]
fn messages_of_many_threads_never_mix_and_none_is_lost() {
    watched(|| {
        let (left, right) = pair();
        let receive = || {
            let mut seen = [0_usize; 4];
            while let Ok(message) = right.recv_bytes() {
                let number = message[0];
                assert!(message == vec![number; message.len()]);
                seen[number as usize] += message.len();
            }
            seen
        };
        let total = thread::scope(|scope| {
            let receivers = [scope.spawn(receive), scope.spawn(receive)];
            let senders: Vec<_> = (0..4_u8)
                .map(|number| {
                    let left = &left;
                    scope.spawn(move || {
                        for size in (1..300_000).step_by(9_973) {
                            left.send_bytes(&vec![number; size]).unwrap();
                        }
                    })
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            left.shutdown(Shutdown::Write).unwrap();
            receivers.map(|receiver| receiver.join().unwrap())
        });
        let each = (1..300_000).step_by(9_973).sum::<usize>();
        let [first, second] = total;
        assert!(first.iter().zip(second).all(|(first, second)| first + second == each));
    });
}

#[test]
fn what_is_announced_takes_no_memory_and_what_is_too_long_is_skipped() {
    scenario!(what_is_announced_takes_no_memory_and_what_is_too_long_is_skipped, {
        let (connection, mut peer) = bare();
        let before = status_kib("VmSize");
        // 12 GiB, which is within the limit, of which two bytes come.
        peer.write_all(&[&[0xff; 4][..], &(12_u64 << 30).to_be_bytes(), b"ab"].concat()).unwrap();
        assert!(connection.try_recv_bytes().unwrap().is_none());
        assert!(status_kib("VmSize") < before + 1024, "{before} KiB before, {} after", status_kib("VmSize"));

        let (connection, mut peer) = bare();
        mp_core::set_message_limit(MIB as u64);
        assert!(matches!(connection.send_bytes(&bytes(MIB + 1)).unwrap_err().reason,
            SendErrorReason::Encode(error) if error.is_too_large()));
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
            assert!(matches!(connection.recv_bytes(), Err(RecvError::Malformed(_))));
        });
    });
}

#[test]
fn the_end_is_told_from_a_message_that_was_cut_off() {
    watched(|| {
        let (left, right) = pair();
        left.send_bytes(b"last").unwrap();
        drop(left);
        assert_eq!(right.recv_bytes().unwrap(), b"last");
        assert!(matches!(right.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(right.poll(Some(Duration::ZERO)).unwrap());
        assert!(matches!(right.send_bytes(b"too late").unwrap_err().reason, SendErrorReason::Disconnected));

        let (connection, mut peer) = bare();
        peer.write_all(b"\0\0\0\x05hel").unwrap();
        assert!(connection.try_recv_bytes().unwrap().is_none());
        drop(peer);
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Truncated)));
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));

        // A peer that leaves something unread resets the connection; what it had sent comes first.
        let (left, right) = pair();
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
        let (left, right) = pair();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| left.recv_bytes());
            let sender = scope.spawn(|| left.send_bytes(&bytes(16 * MIB)));
            assert!(right.poll(None).unwrap());
            drop(right);
            assert!(matches!(receiver.join().unwrap(), Err(RecvError::Disconnected)));
            assert!(matches!(sender.join().unwrap().unwrap_err().reason, SendErrorReason::Disconnected));
        });
        assert!(matches!(left.flush(None).map_err(|error| error.reason), Ok(())));
    });
}

#[process_fn]
fn send_for_ever(connection: ByteConnection) {
    for round in 0_u64.. {
        connection.send_bytes(&vec![round as u8; 300_000]).unwrap();
    }
}

#[test]
fn a_sender_that_is_killed_leaves_whole_messages_and_an_end() {
    scenario!(a_sender_that_is_killed_leaves_whole_messages_and_an_end, {
        for round in 0..10 {
            let (mine, theirs) = pair();
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
}

#[test]
fn a_connection_travels_between_messages_only() {
    watched(|| {
        let (sender, receiver) = pipe::<ByteConnection>().unwrap();
        let (connection, mut peer) = bare();
        peer.write_all(b"\0\0").unwrap();
        assert!(connection.try_recv_bytes().unwrap().is_none());
        let error = sender.send(connection).unwrap_err();
        assert!(matches!(&error.reason, SendErrorReason::Encode(error) if error.to_string().contains("middle")));
        let connection = error.into_inner();
        peer.write_all(b"\0\x02hi").unwrap();
        assert_eq!(connection.recv_bytes().unwrap(), b"hi");
        sender.send(connection).unwrap();
        let connection = receiver.recv().unwrap();
        peer.write_all(b"\0\0\0\x01!").unwrap();
        assert_eq!(connection.recv_bytes().unwrap(), b"!");

        // Half sent.
        assert!(connection.try_send_bytes(&bytes(4 * MIB)).is_err());
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
            let message = mp_core::Message::encode(&through.recv().unwrap()).unwrap();
            message.decode().unwrap()
        };
        assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
    });
}

#[cfg(feature = "json")]
#[test]
fn json_goes_as_a_message() {
    watched(|| {
        let (left, right) = pair();
        let value = serde_json::json!({ "a": [1, 2.5, null], "b": { "c": "d" } });
        left.send_json(&value).unwrap();
        left.send_bytes(b"no json").unwrap();
        left.send_json("text").unwrap();
        left.send_json(&[1_u8, 2]).unwrap();
        assert_eq!(right.recv_json::<serde_json::Value>().unwrap(), value);
        assert!(matches!(right.recv_json::<serde_json::Value>(), Err(RecvError::Decode(_))));
        assert_eq!(right.recv_bytes().unwrap(), b"\"text\"");
        assert_eq!(right.recv_json::<Vec<u8>>().unwrap(), [1, 2]);
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        let error = left.send_json(&unwritable).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Encode(_)));
        assert!(right.try_recv_bytes().unwrap().is_none());
    });
}
