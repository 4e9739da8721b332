//! What a message is made of: plain bytes, values of every form, handles.

use std::fs::File;
use std::io::{Read, Seek, Write};

use mp_core::{Connection, Message, Receiver, RecvError, SendErrorReason, Sender, duplex, pipe, process_fn};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::support::leaks::Resources;
use super::support::limits::allow_descriptors;
use super::support::{chain, eventually, scenario};
use super::{MIB, bytes};

#[derive(Serialize, Deserialize)]
struct Parcel {
    text: ByteBuf,
    #[serde(with = "mp_core::fd")]
    file: File,
}

/// Writes the first byte of each text into its file.
#[process_fn]
fn label(parcels: Receiver<Vec<Parcel>>) {
    for message in parcels.iter() {
        for mut parcel in message.unwrap() {
            parcel.file.write_all(&parcel.text[..1]).unwrap();
        }
    }
}

#[test]
fn handles_arrive_with_the_bytes_around_them() {
    scenario!(handles_arrive_with_the_bytes_around_them, {
        for (count, size) in [(3, MIB), (300, 20 << 10), (300, 1)] {
            let (parcels, receiver) = pipe().unwrap();
            let child = label::spawn(receiver).unwrap();
            let mut files: Vec<_> = (0..count).map(|_| tempfile::tempfile().unwrap()).collect();
            let pack = |(number, file): (usize, &File)| Parcel {
                text: ByteBuf::from(vec![number as u8; size]),
                file: file.try_clone().unwrap(),
            };
            for _ in 0..3 {
                parcels.send(files.iter().enumerate().map(pack).collect()).unwrap();
            }
            drop(parcels);
            child.join().unwrap();
            for (number, file) in files.iter_mut().enumerate() {
                file.rewind().unwrap();
                let mut text = Vec::new();
                file.read_to_end(&mut text).unwrap();
                assert_eq!(text, [number as u8; 3]);
            }
        }
    });
}

#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] File);

#[process_fn]
fn count_handles(messages: Receiver<(ByteBuf, Vec<Handle>)>) -> Vec<usize> {
    messages.iter().map(|message| message.unwrap().1.len()).collect()
}

/// How many handles a message can have.
const MOST_HANDLES: usize = 16 << 10;

#[test]
fn more_handles_than_a_message_can_have_are_refused_by_its_sender() {
    if !allow_descriptors(MOST_HANDLES as u64 + 1000) {
        return;
    }
    scenario!(more_handles_than_a_message_can_have, {
        let handle = Handle(tempfile::tempfile().unwrap());
        let (sender, receiver) = pipe::<(ByteBuf, Vec<Handle>)>().unwrap();
        let child = count_handles::spawn(receiver).unwrap();
        // The same socket, for values that need not own their handles.
        let messages: Sender<(ByteBuf, Vec<&Handle>)> = Message::encode(&sender).unwrap().decode().unwrap();
        drop(sender);
        let send = |size, count| {
            // A sender that has offered nothing in vain yet: if the receiver is late, the next one offers again.
            let messages = messages.try_clone().unwrap();
            messages.send((ByteBuf::from(bytes(size, 0)), vec![&handle; count])).map_err(|error| error.reason)
        };
        let refused = |size| {
            let reason = send(size, MOST_HANDLES + 1).unwrap_err();
            assert!(chain(&reason).contains("too many handles"), "{reason:?}");
            reason
        };
        send(0, MOST_HANDLES).unwrap();
        refused(0);
        send(MIB, MOST_HANDLES).unwrap();
        // So long that its sender waits a while for the receiver, which may be slow. If it is accepted, the message
        // fails while it is encoded, and otherwise when it is sent.
        eventually("one was refused on its way", || matches!(refused(16 * MIB), SendErrorReason::Encode(_)));
        send(0, MOST_HANDLES).unwrap();
        drop(messages);
        assert_eq!(child.join().unwrap(), [MOST_HANDLES; 3]);
    });
}

#[process_fn]
fn plain(connection: Connection<(), ()>) -> Vec<u64> {
    let mut lengths = Vec::new();
    let mut buffer = vec![0; 3 * MIB];
    loop {
        let into = lengths.len() % 2 == 1;
        let message = match into {
            true => connection.recv_bytes_into(&mut buffer).map(|length| buffer[..length].to_vec()),
            false => connection.recv_bytes(),
        };
        match message {
            Ok(message) => {
                assert!(message == bytes(message.len(), 5));
                lengths.push(message.len() as u64);
            }
            Err(RecvError::BufferTooShort(message)) => {
                assert!(into && message == bytes(message.len(), 5));
                lengths.push(message.len() as u64);
            }
            Err(RecvError::Disconnected) => return lengths,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn plain_bytes_go_the_same_way() {
    scenario!(plain_bytes_go_the_same_way, {
        let sizes = [MIB, 2 * MIB, 3 * MIB, 3 * MIB, 4 * MIB, 4 * MIB, 0, 0, 5 * MIB, 3 * MIB + 1];
        let (mine, theirs) = duplex().unwrap();
        let child = plain::spawn(theirs).unwrap();
        for size in sizes {
            mine.send_bytes(&bytes(size, 5)).unwrap();
        }
        drop(mine);
        let expected: Vec<_> = sizes.iter().map(|&size| size as u64).collect();
        assert_eq!(child.join().unwrap(), expected);
    });
}

#[test]
fn values_of_every_form_go_the_same_way() {
    scenario!(values_of_every_form_go_the_same_way, {
        type Value =
            (Vec<f64>, Vec<String>, Option<Vec<(u8, char)>>, std::collections::BTreeMap<u32, Vec<u16>>, String);
        #[process_fn]
        fn mirror(connection: Connection<Value, Value>) {
            for value in connection.iter() {
                connection.send(value.unwrap()).unwrap();
            }
        }
        let value: Value = (
            (0..200_000).map(|number| f64::from(number) * 0.1).collect(),
            (0..20_000).map(|number| "x".repeat(number % 100)).collect(),
            Some((0..200_000_u32).map(|number| (number as u8, char::from_u32(number % 0xD800).unwrap())).collect()),
            (0..1000).map(|number| (number, vec![7; number as usize])).collect(),
            "ä".repeat(MIB),
        );
        let (mine, theirs) = duplex().unwrap();
        let child = mirror::spawn(theirs).unwrap();
        for _ in 0..5 {
            mine.send_ref(&value).unwrap();
            assert!(mine.recv().unwrap() == value);
        }
        drop(mine);
        child.join().unwrap();
    });
}

#[test]
fn what_was_offered_and_never_received_leaves_nothing() {
    scenario!(what_was_offered_and_never_received_leaves_nothing, {
        let before = Resources::of_this_process();
        for _ in 0..3 {
            let (sender, receiver) = pipe().unwrap();
            sender.send(ByteBuf::from(bytes(MIB, 0))).unwrap();
            drop(sender);
            drop(receiver);
        }
        assert_eq!(Resources::of_this_process(), before);
    });
}
