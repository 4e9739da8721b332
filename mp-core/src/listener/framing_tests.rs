use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;

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

/// A socket to write to, and one to read from.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn read(incoming: &mut Incoming, from: &UnixStream, limit: u64) -> Result<(), Option<RecvError>> {
    match incoming.read(from.as_fd(), limit, Blocking::No) {
        Ok(()) => Ok(()),
        Err(Interruption::WouldBlock) => Err(None),
        Err(Interruption::Failed(error)) => Err(Some(error)),
    }
}

#[test]
fn a_message_is_put_together_byte_by_byte() {
    let long = [&[0xff; 4][..], &3_u64.to_be_bytes(), b"abc"].concat();
    let short = [&3_u32.to_be_bytes()[..], b"abc"].concat();
    for message in [long, short] {
        let (mut to, from) = pair();
        let mut incoming = Incoming::new();
        for (at, byte) in message.iter().enumerate() {
            assert!(matches!(read(&mut incoming, &from, 10), Err(None)));
            assert_eq!(incoming.is_at_boundary(), at == 0);
            to.write_all(&[*byte]).unwrap();
        }
        read(&mut incoming, &from, 10).unwrap();
        assert_eq!(incoming.take_body(), b"abc");
        assert!(incoming.is_at_boundary());
    }
}

#[test]
fn nothing_behind_a_message_is_read() {
    let (mut to, from) = pair();
    let mut incoming = Incoming::new();
    // Also when there is room for it.
    for room in [0, 1 << 16] {
        incoming.body.reserve(room);
        to.write_all(b"\0\0\0\x01a").unwrap();
        to.write_all(b"\0\0\0\x02bc").unwrap();
        read(&mut incoming, &from, 10).unwrap();
        assert_eq!(incoming.body(), b"a");
        let mut rest = [0; 6];
        io::Read::read_exact(&mut &from, &mut rest).unwrap();
        assert_eq!(&rest, b"\0\0\0\x02bc");
        incoming.clear();
    }
}

#[test]
fn memory_grows_with_what_arrives() {
    let (mut to, from) = pair();
    let mut incoming = Incoming::new();
    to.write_all(&0x7fff_ffff_u32.to_be_bytes()).unwrap();
    to.write_all(b"three").unwrap();
    assert!(matches!(read(&mut incoming, &from, 1 << 40), Err(None)));
    assert!(incoming.body.capacity() < 2 * CHUNK, "{}", incoming.body.capacity());
}

#[test]
fn a_message_that_is_too_long_is_skipped() {
    let (mut to, from) = pair();
    let mut incoming = Incoming::new();
    to.write_all(b"\0\0\0\x0b0123").unwrap();
    let refused = read(&mut incoming, &from, 10);
    assert!(matches!(refused, Err(Some(RecvError::TooLarge { length: 11, limit: 10 }))), "{refused:?}");
    assert!(!incoming.is_at_boundary());
    assert!(matches!(read(&mut incoming, &from, 10), Err(None)));
    to.write_all(b"456789a\0\0\0\x01b").unwrap();
    read(&mut incoming, &from, 10).unwrap();
    assert_eq!(incoming.take_body(), b"b");
    to.write_all(&[&[0xff; 4][..], &u64::MAX.to_be_bytes()].concat()).unwrap();
    let refused = read(&mut incoming, &from, u64::MAX);
    assert!(matches!(refused, Err(Some(RecvError::TooLarge { length: u64::MAX, .. }))), "{refused:?}");
    drop(to);
    assert!(matches!(read(&mut incoming, &from, 10), Err(Some(RecvError::Truncated))));
    assert!(matches!(read(&mut incoming, &from, 10), Err(Some(RecvError::Disconnected))));
}

#[test]
fn a_negative_length_leaves_nothing_to_go_on_with() {
    let (mut to, from) = pair();
    let mut incoming = Incoming::new();
    to.write_all(&(-2_i32).to_be_bytes()).unwrap();
    to.write_all(b"\0\0\0\x01a").unwrap();
    for _ in 0..2 {
        let refused = read(&mut incoming, &from, 10);
        assert!(matches!(refused, Err(Some(RecvError::Malformed(_)))), "{refused:?}");
    }
    assert!(!incoming.is_at_boundary());
}

#[test]
fn the_end_is_clean_between_messages_only() {
    for (sent, clean) in [(&b""[..], true), (b"\0", false), (b"\0\0\0\x02", false), (b"\0\0\0\x02a", false)] {
        let (mut to, from) = pair();
        to.write_all(sent).unwrap();
        drop(to);
        let mut incoming = Incoming::new();
        let end = read(&mut incoming, &from, 10);
        assert_eq!(matches!(end, Err(Some(RecvError::Disconnected))), clean, "{end:?}");
        assert!(clean || matches!(end, Err(Some(RecvError::Truncated))), "{end:?}");
        assert!(matches!(read(&mut incoming, &from, 10), Err(Some(RecvError::Disconnected))));
    }
}

#[test]
fn a_frame_goes_on_where_it_was_left() {
    let (to, from) = pair();
    to.set_nonblocking(true).unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut frame = Frame::new(&body);
    let mut incoming = Incoming::new();
    let mut pauses = 0;
    while let Err(error) = frame.send(to.as_fd(), Blocking::No) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        pauses += 1;
        assert_eq!(frame.to_rest().len(), body.len() + 4 - frame.sent());
        assert!(matches!(read(&mut incoming, &from, u64::MAX), Err(None)));
    }
    assert!(pauses > 0);
    read(&mut incoming, &from, u64::MAX).unwrap();
    assert!(incoming.take_body() == body);
}
