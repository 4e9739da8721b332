use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use mp_core::raw::Deadline;

use super::*;
use crate::waits::now;

#[test]
fn headers_are_those_of_cpython() {
    // `struct.pack("!i", n)`, and from 2^31 on `struct.pack("!i", -1) + struct.pack("!Q", n)`.
    let header = |length| {
        let (bytes, used) = header(length);
        bytes[..used].to_vec()
    };
    assert_eq!(header(0), [0, 0, 0, 0]);
    assert_eq!(header(0x0102), [0, 0, 1, 2]);
    assert_eq!(header(0x7fff_ffff), [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(header(0x8000_0000), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    assert_eq!(header(0x1_0000_0002), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 2]);
}

/// Receives what has arrived.
fn receive_now(connection: &mut ByteConnection, limit: u64) -> Result<Option<Vec<u8>>, RecvError> {
    now(receive(connection, limit, &Waits::Thread(Deadline::now())))
}

/// A socket to write to, and the connection at its other end.
fn pair() -> (UnixStream, ByteConnection) {
    let (to, from) = UnixStream::pair().unwrap();
    (to, from.into())
}

#[test]
fn both_forms_of_a_length_are_read_and_nothing_after_the_message() {
    for header in [&3_u32.to_be_bytes()[..], &[&[0xff; 4][..], &3_u64.to_be_bytes()].concat()] {
        let (mut to, mut from) = pair();
        to.write_all(&[header, b"abc", b"\0\0\0\x02"].concat()).unwrap();
        assert_eq!(receive_now(&mut from, 10).unwrap().unwrap(), b"abc");
        let mut rest = [0; 4];
        assert_eq!(stream::receive(from.as_fd(), &mut rest).unwrap(), 4);
        assert_eq!(&rest, b"\0\0\0\x02");
    }
}

#[test]
fn a_message_that_is_too_long_is_skipped_in_as_many_calls_as_it_takes() {
    let (mut to, mut from) = pair();
    to.write_all(b"\0\0\0\x0b0123").unwrap();
    let refused = receive_now(&mut from, 10);
    assert!(matches!(refused, Err(RecvError::TooLarge { length: 11, limit: 10 })), "{refused:?}");
    for _ in 0..2 {
        assert!(receive_now(&mut from, 10).unwrap().is_none());
    }
    to.write_all(b"456789a\0\0\0\x01b").unwrap();
    assert_eq!(receive_now(&mut from, 10).unwrap().unwrap(), b"b");
    to.write_all(&[&[0xff; 4][..], &u64::MAX.to_be_bytes()].concat()).unwrap();
    let refused = receive_now(&mut from, u64::MAX);
    assert!(matches!(refused, Err(RecvError::TooLarge { length: u64::MAX, .. })), "{refused:?}");
    drop(to);
    assert!(matches!(receive_now(&mut from, 10), Err(RecvError::Truncated)));
    assert!(matches!(receive_now(&mut from, 10), Err(RecvError::Disconnected)));
}

#[test]
fn what_cannot_be_continued_is_closed() {
    // A negative length, and parts of a message at the deadline.
    for (arrived, malformed) in [(&(-2_i32).to_be_bytes()[..], true), (b"\0\0", false), (b"\0\0\0\x02a", false)] {
        let (mut to, mut from) = pair();
        to.write_all(arrived).unwrap();
        let refused = receive_now(&mut from, 10).unwrap_err();
        assert_eq!(matches!(refused, RecvError::Malformed(_)), malformed, "{refused:?}");
        assert_eq!(matches!(refused, RecvError::Closed), !malformed, "{refused:?}");
        assert_eq!(to.read(&mut [0]).unwrap(), 0);
        assert!(matches!(receive_now(&mut from, 10), Err(RecvError::Closed)));
        let refused = now(send(&mut from, b"", &Waits::Thread(Deadline::NEVER)));
        assert!(matches!(refused, Err(SendError::Closed)), "{refused:?}");
    }
}

#[test]
fn the_end_is_clean_between_messages_only() {
    for (sent, clean) in [(&b""[..], true), (b"\0", false), (b"\0\0\0\x02", false), (b"\0\0\0\x02a", false)] {
        let (mut to, mut from) = pair();
        to.write_all(sent).unwrap();
        drop(to);
        let end = receive_now(&mut from, 10);
        assert_eq!(matches!(end, Err(RecvError::Disconnected)), clean, "{end:?}");
        assert!(clean || matches!(end, Err(RecvError::Truncated)), "{end:?}");
        assert!(matches!(receive_now(&mut from, 10), Err(RecvError::Disconnected)));
    }
}
