//! What happens when the patience of a use that cannot return an error ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mp_core::raw::Message;

use super::{Buffer, BufferError, RejoinErrorReason};

/// The buffer of a sender that keeps it, and the one that was received.
fn sent_and_kept(values: &[u8]) -> (Buffer<u8>, Buffer<u8>) {
    let kept = Buffer::from_slice(values).unwrap();
    let received = Message::encode(&kept).unwrap().decode().unwrap();
    (kept, received)
}

#[test]
fn using_what_its_sender_keeps_panics() {
    type Use = fn(Buffer<u8>);
    let uses: [(&str, Use); 5] = [
        ("read", |buffer| assert_eq!(buffer[0], 1)),
        ("write", |mut buffer| buffer[0] = 1),
        ("populate", |mut buffer| buffer.populate().unwrap()),
        ("split", |buffer| drop(buffer.split(2))),
        ("split_at", |buffer| drop(buffer.split_at(1))),
    ];
    for (name, action) in uses {
        let (kept, received) = sent_and_kept(&[1, 2, 3]);
        let panic = catch_unwind(AssertUnwindSafe(|| action(received))).expect_err(name);
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("another owner still has this buffer"), "{name}: {text}");
        assert_eq!(*kept, [1, 2, 3], "{name}");
    }
}

#[test]
fn what_its_sender_keeps_cannot_be_frozen_or_joined_and_is_given_back() {
    let (kept, received) = sent_and_kept(&[1, 2, 3]);
    let error = received.freeze().unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::ResourceBusy);
    drop(kept);
    assert_eq!(*error.buffer.unwrap(), [1, 2, 3]);

    let (start, end) = Buffer::from_slice(&[1u8, 2, 3]).unwrap().split_at(1);
    let received = Message::encode(&end).unwrap().decode().unwrap();
    let error = Buffer::rejoin([start, received]).unwrap_err();
    assert!(matches!(error.reason, RejoinErrorReason::Part(BufferError::InUse)), "{:?}", error.reason);
    assert_eq!(error.parts.iter().map(Buffer::len).sum::<usize>(), 3);
    assert_eq!(error.parts[0].range(), 1..3, "the one that cannot be used comes first");
    drop(end);
    assert_eq!(*Buffer::rejoin(error.parts).unwrap(), [1, 2, 3]);
}
