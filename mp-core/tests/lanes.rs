//! Large messages between a sender and a receiver that both take their time: they go from hand to hand, and whatever happens in the
//! middle, a message arrives whole or not at all.

mod support;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Connection, Message, Receiver, RecvError, SendErrorReason, Sender, duplex, pipe, process_fn, wait};
use rustix::process::{Signal, getpid, kill_process};
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};
use support::leaks::{Resources, timed};
use support::{PATIENCE, eventually, procfs, scenario};

const MIB: usize = 1 << 20;

fn bytes(size: usize, seed: usize) -> Vec<u8> {
    // Repeated, because byte by byte is slow without optimisation.
    let period: Vec<u8> = (0..251).map(|index| ((index + seed) * 31 % 251) as u8).collect();
    let mut bytes = period.repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}

/// Two halves of a message, with something that happens between them on either side.
struct Halves;

const HALF: usize = 2 * MIB;

thread_local! {
    static BETWEEN_WRITES: RefCell<Box<dyn FnMut() -> Result<(), String>>> = RefCell::new(Box::new(|| Ok(())));
    static BETWEEN_READS: RefCell<Box<dyn FnMut() -> Result<(), String>>> = RefCell::new(Box::new(|| Ok(())));
}

fn between_writes(action: impl FnMut() -> Result<(), String> + 'static) {
    BETWEEN_WRITES.set(Box::new(action));
}

fn between_reads(action: impl FnMut() -> Result<(), String> + 'static) {
    BETWEEN_READS.set(Box::new(action));
}

impl Serialize for Halves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(Bytes::new(&bytes(HALF, 1)))?;
        BETWEEN_WRITES.with_borrow_mut(|action| action()).map_err(S::Error::custom)?;
        tuple.serialize_element(Bytes::new(&bytes(HALF, 2)))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Halves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;

        impl<'de> Visitor<'de> for Both {
            type Value = Halves;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("two halves")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut halves: A) -> Result<Halves, A::Error> {
                assert!(halves.next_element::<ByteBuf>()?.unwrap() == bytes(HALF, 1));
                BETWEEN_READS.with_borrow_mut(|action| action()).map_err(A::Error::custom)?;
                let second = halves.next_element::<ByteBuf>()?.unwrap();
                assert!(second == bytes(HALF, 2));
                Ok(Halves)
            }
        }

        deserializer.deserialize_tuple(2, Both)
    }
}

/// Tells when it has read the first half of a message, for as long as there are messages.
#[process_fn]
fn tell_of_halves(messages: Receiver<Halves>, halves: Sender<()>) -> u32 {
    between_reads(move || {
        // At the end nobody listens any more.
        let _ = halves.try_send(());
        Ok(())
    });
    let mut received = 0;
    for message in messages.iter() {
        message.unwrap();
        received += 1;
    }
    received
}

#[test]
fn the_beginning_is_decoded_before_the_end_is_encoded() {
    scenario!(the_beginning_is_decoded_before_the_end_is_encoded, {
        thread_local!(static OVERTAKEN: Cell<bool> = const { Cell::new(false) });
        let (messages, receiver) = pipe().unwrap();
        let (halves, told) = pipe().unwrap();
        let child = tell_of_halves::spawn(receiver, halves).unwrap();
        between_writes(move || {
            // A receiver that was late for this message gets the next one, or one after it, in this way.
            if told.recv_timeout(Duration::from_millis(20)).unwrap().is_some() {
                OVERTAKEN.set(true);
            }
            while told.try_recv().unwrap().is_some() {}
            Ok(())
        });
        let (mut sent, start) = (0, Instant::now());
        while !OVERTAKEN.get() {
            assert!(start.elapsed() < PATIENCE, "none of {sent} messages was read before it was written");
            messages.send(Halves).unwrap();
            sent += 1;
        }
        drop(messages);
        between_writes(|| Ok(()));
        assert_eq!(child.join().unwrap(), sent);
    });
}

#[process_fn]
fn count_halves(messages: Receiver<Halves>) -> u32 {
    messages.iter().map(|message| u32::from(message.is_ok())).sum()
}

#[test]
fn a_message_that_fails_to_encode_in_the_middle_never_was() {
    scenario!(a_message_that_fails_to_encode_in_the_middle_never_was, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_halves::spawn(receiver).unwrap();
        for round in 0..40 {
            between_writes(move || if round % 2 == 0 { Err("not this one".to_owned()) } else { Ok(()) });
            match messages.send(Halves) {
                Ok(()) => assert!(round % 2 == 1),
                Err(error) => {
                    assert!(round % 2 == 0);
                    let SendErrorReason::Encode(error) = error.reason else { panic!("{:?}", error.reason) };
                    assert!(error.to_string().contains("not this one"));
                }
            }
        }
        drop(messages);
        assert_eq!(child.join().unwrap(), 20);
    });
}

/// Sends messages, and dies in the middle of the last one.
#[process_fn]
fn send_and_die(whole: u32, messages: Sender<Halves>) {
    for _ in 0..whole {
        messages.send(Halves).unwrap();
    }
    between_writes(|| kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string()));
    messages.send(Halves).unwrap();
}

#[test]
fn a_sender_that_dies_in_the_middle_is_truncated_or_never_was() {
    scenario!(a_sender_that_dies_in_the_middle_is_truncated_or_never_was, {
        let mut truncated = 0;
        eventually("one was killed in the middle of being received", || {
            for whole in 0..3 {
                let (sender, messages) = pipe().unwrap();
                let child = send_and_die::spawn(whole, sender).unwrap();
                let mut received = 0;
                loop {
                    match messages.recv() {
                        Ok(Halves) => received += 1,
                        Err(RecvError::Truncated) => truncated += 1,
                        Err(RecvError::Disconnected) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                assert_eq!(received, whole);
                child.join().unwrap_err();
            }
            truncated > 0
        });
    });
}

#[process_fn]
fn die_over_a_message(messages: Receiver<Halves>) {
    between_reads(|| kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string()));
    drop(messages.recv());
}

#[test]
fn a_receiver_that_dies_in_the_middle_does_not_hold_its_sender_up() {
    scenario!(a_receiver_that_dies_in_the_middle_does_not_hold_its_sender_up, {
        for _ in 0..20 {
            let (messages, receiver) = pipe().unwrap();
            let child = die_over_a_message::spawn(receiver).unwrap();
            // Sooner or later, as the message may have been under way in a memory file.
            let refused = (0..3).find_map(|_| messages.send(Halves).err()).expect("nobody receives any more");
            assert!(matches!(refused.reason, SendErrorReason::Disconnected), "{:?}", refused.reason);
            child.join().unwrap_err();
        }
    });
}

#[test]
fn a_receiver_that_dies_in_the_middle_takes_nothing_from_the_others() {
    scenario!(a_receiver_that_dies_in_the_middle_takes_nothing_from_the_others, {
        for _ in 0..10 {
            let (messages, receiver) = pipe().unwrap();
            let clone = receiver.try_clone().unwrap();
            let child = die_over_a_message::spawn(receiver).unwrap();
            messages.send(Halves).unwrap();
            child.join().unwrap_err();
            let survivor = count_halves::spawn(clone).unwrap();
            messages.send(Halves).unwrap();
            drop(messages);
            // The first one as well, if it was cut in the middle.
            assert!((1..=2).contains(&survivor.join().unwrap()));
        }
    });
}

/// What came of messages, one letter each.
#[process_fn]
fn sort(messages: Receiver<(u64, Vec<ByteBuf>)>, limit: u64) -> String {
    mp_core::set_message_limit(limit);
    let letter = |message: Result<_, RecvError>| match message {
        Ok(_) => 'o',
        Err(RecvError::TooLarge { length, limit: given }) => {
            assert!(length > given && given == limit, "{length} {given}");
            'l'
        }
        Err(RecvError::Decode(_)) => 'd',
        Err(error) => panic!("{error:?}"),
    };
    messages.iter().map(letter).collect()
}

#[test]
fn what_a_receiver_refuses_in_the_middle_leaves_the_next_message_alone() {
    scenario!(what_a_receiver_refuses_in_the_middle_leaves_the_next_message_alone, {
        let (mine, theirs) = duplex::<(u64, Vec<ByteBuf>), ()>().unwrap();
        // The same socket, taken for another connection.
        let theirs = Message::encode(&theirs).unwrap().decode().unwrap();
        let child = confused::spawn(theirs).unwrap();
        for round in 0..20 {
            mine.send((round, vec![ByteBuf::from(bytes(MIB, 0)); 2])).unwrap();
        }
        drop(mine);
        assert_eq!(child.join().unwrap(), "d".repeat(20));

        let (messages, receiver) = pipe().unwrap();
        let child = sort::spawn(receiver, 1 << 20).unwrap();
        for round in 0..30 {
            let size = if round % 2 == 0 { MIB / 4 } else { MIB };
            messages.send((round, vec![ByteBuf::from(bytes(size, 0)); 3])).unwrap();
        }
        drop(messages);
        assert_eq!(child.join().unwrap(), "ol".repeat(15));
    });
}

#[process_fn]
fn confused(connection: Connection<(), (bool, Vec<String>)>) -> String {
    connection.iter().map(|message| if matches!(message, Err(RecvError::Decode(_))) { 'd' } else { 'o' }).collect()
}

#[test]
fn a_message_whose_encoding_panics_in_the_middle_never_was() {
    scenario!(a_message_whose_encoding_panics_in_the_middle_never_was, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_halves::spawn(receiver).unwrap();
        for _ in 0..20 {
            between_writes(|| resume_unwind(Box::new("not this one")));
            catch_unwind(AssertUnwindSafe(|| messages.send(Halves))).unwrap_err();
            between_writes(|| Ok(()));
            messages.send(Halves).unwrap();
        }
        drop(messages);
        assert_eq!(child.join().unwrap(), 20);
    });
}

/// Counts messages of both kinds, and tells of each short one.
#[process_fn]
fn count_any(messages: Receiver<Option<Halves>>, told: Sender<()>) -> (u32, u32) {
    let (mut small, mut large) = (0, 0);
    for message in &messages {
        match message.unwrap() {
            Some(Halves) => large += 1,
            None => {
                small += 1;
                // At the end nobody listens any more.
                let _ = told.send(());
            }
        }
    }
    (small, large)
}

#[process_fn]
fn send_and_stop(messages: Sender<Option<Halves>>) {
    between_writes(|| kill_process(getpid(), Signal::STOP).map_err(|error| error.to_string()));
    messages.send(Some(Halves)).unwrap();
}

#[test]
fn a_sender_that_is_stopped_in_the_middle_holds_nobody_else_up_and_loses_nothing() {
    scenario!(a_sender_that_is_stopped_in_the_middle, {
        let (messages, receiver) = pipe().unwrap();
        let (told, tales) = pipe().unwrap();
        let counting = count_any::spawn(receiver, told).unwrap();
        for round in 0..5 {
            let stopped = send_and_stop::spawn(messages.try_clone().unwrap()).unwrap();
            let pid = procfs::number_of(stopped.pid());
            eventually("it has stopped", || procfs::Entry::read(stopped.pid()).unwrap().state == 'T');
            for _ in 0..3 {
                messages.send(None).unwrap();
                assert!(tales.recv_timeout(PATIENCE).unwrap().is_some(), "round {round}: it is held up");
            }
            // It may stop once more, because the message is encoded again.
            eventually("it has ended", || {
                let _ = kill_process(pid, Signal::CONT);
                !stopped.is_alive()
            });
            stopped.join().unwrap();
        }
        drop(messages);
        assert_eq!(counting.join().unwrap(), (15, 5));
    });
}

/// A value that sends others while it is encoded.
struct Chain(Sender<Option<Halves>>);

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(Bytes::new(&bytes(HALF, 1)))?;
        for _ in 0..3 {
            self.0.send(Some(Halves)).map_err(S::Error::custom)?;
        }
        tuple.serialize_element(Bytes::new(&bytes(HALF, 2)))?;
        tuple.end()
    }
}

#[test]
fn a_value_that_sends_others_over_the_same_connection_while_it_is_encoded_does_no_harm() {
    scenario!(a_value_that_sends_others, {
        for _ in 0..10 {
            let (messages, receiver) = pipe::<Option<Halves>>().unwrap();
            let clone = messages.try_clone().unwrap();
            // The same socket, for another type of the same form.
            let chains: Sender<Option<Chain>> = Message::encode(&messages).unwrap().decode().unwrap();
            drop(messages);
            let (told, _tales) = pipe().unwrap();
            let counting = count_any::spawn(receiver, told).unwrap();
            chains.send(Some(Chain(clone))).unwrap();
            drop(chains);
            // A message that is given up for those that wait behind it is encoded again, and sends them again.
            let counted = counting.join().unwrap();
            assert!(matches!(counted, (0, 4 | 7)), "{counted:?}");
        }
    });
}

#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] File);

/// A handle, and plain bytes that are sent and received in the middle of it.
struct Around {
    file: Handle,
    aside: Connection<(), ()>,
}

impl Serialize for Around {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.file)?;
        self.aside.send_bytes(&bytes(HALF, 3)).map_err(S::Error::custom)?;
        tuple.serialize_element(&())?;
        tuple.end()
    }
}

#[process_fn]
fn take_aside(aside: Connection<(), ()>) -> u32 {
    let mut taken = 0;
    while let Ok(message) = aside.recv_bytes() {
        assert!(message == bytes(HALF, 3));
        taken += 1;
    }
    taken
}

#[test]
fn plain_bytes_that_are_sent_while_a_value_is_encoded_leave_its_handles_alone() {
    scenario!(plain_bytes_that_are_sent_while_a_value_is_encoded, {
        let (aside, theirs) = duplex().unwrap();
        let child = take_aside::spawn(theirs).unwrap();
        let around = Around { file: Handle(tempfile::tempfile().unwrap()), aside };
        let (sender, receiver) = pipe::<Around>().unwrap();
        let handles: Receiver<(Handle, ())> = Message::encode(&receiver).unwrap().decode().unwrap();
        for _ in 0..10 {
            sender.send_ref(&around).unwrap();
            handles.recv().unwrap();
        }
        drop(around);
        assert_eq!(child.join().unwrap(), 10);
    });
}

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

#[process_fn]
fn send_slowly(messages: Sender<Halves>, count: u32) {
    between_writes(|| {
        thread::sleep(Duration::from_millis(200));
        Ok(())
    });
    for _ in 0..count {
        messages.send(Halves).unwrap();
    }
}

#[test]
fn looking_and_deadlines_do_not_wait_for_a_message_that_is_still_being_made() {
    scenario!(looking_and_deadlines_do_not_wait_for_a_message_that_is_still_being_made, {
        const PAUSE: Duration = Duration::from_millis(200);
        const COUNT: u32 = 4;
        let (sender, messages) = pipe().unwrap();
        let child = send_slowly::spawn(sender, COUNT).unwrap();
        // Less than the pause in which the message is not complete: the shortest of many, as this process may not run for a while.
        let mut shortest = PAUSE;
        let mut received = 0;
        eventually("all have come", || {
            let (message, took) = match received % 2 {
                0 => timed(|| messages.try_recv().unwrap()),
                _ => timed(|| messages.recv_timeout(Duration::from_millis(1)).unwrap()),
            };
            match message {
                Some(Halves) => received += 1,
                None => shortest = shortest.min(took),
            }
            received == COUNT
        });
        assert!(shortest < PAUSE / 2, "{shortest:?}");
        // `wait` goes with both of them, and does not say "ready" for ever before there is anything.
        child.join().unwrap();
        assert_eq!(wait(&[&messages], Some(Duration::ZERO)).unwrap(), [0]);
        assert!(matches!(messages.try_recv(), Err(RecvError::Disconnected)));
    });
}

#[process_fn]
fn sum(messages: Receiver<(u32, ByteBuf)>, patient: bool) -> (u64, u64) {
    let (mut count, mut sum) = (0, 0);
    loop {
        let message = match patient {
            true => messages.recv().map(Some),
            false => messages.recv_timeout(Duration::from_millis(2)),
        };
        match message {
            Ok(Some((seed, body))) => {
                assert!(body == bytes(body.len(), seed as usize), "a message is mixed up");
                count += 1;
                sum += body.len() as u64;
            }
            Ok(None) => {}
            Err(RecvError::Disconnected) => return (count, sum),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[process_fn]
fn send_many(messages: Sender<(u32, ByteBuf)>, seed: u32) {
    for round in 0..12 {
        let size = [10, 60_000, 70_000, 300_000, MIB, 3 * MIB][(round + seed as usize) % 6];
        messages.send((seed, ByteBuf::from(bytes(size, seed as usize)))).unwrap();
    }
}

#[test]
fn many_senders_and_receivers_of_all_sizes_lose_and_mix_nothing() {
    scenario!(many_senders_and_receivers_of_all_sizes_lose_and_mix_nothing, {
        let (sender, receiver) = pipe().unwrap();
        let receivers: Vec<_> =
            (0..3).map(|number| sum::spawn(receiver.try_clone().unwrap(), number > 0).unwrap()).collect();
        drop(receiver);
        let senders: Vec<_> = (0..3).map(|seed| send_many::spawn(sender.try_clone().unwrap(), seed).unwrap()).collect();
        thread::scope(|scope| {
            for seed in 3..5 {
                let sender = &sender;
                scope.spawn(move || send_many(sender.try_clone().unwrap(), seed));
            }
        });
        drop(sender);
        senders.into_iter().for_each(|child| child.join().unwrap());
        let (mut count, mut length) = (0, 0);
        for child in receivers {
            let (some, more) = child.join().unwrap();
            count += some;
            length += more;
        }
        let round: u64 = [10, 60_000, 70_000, 300_000, MIB as u64, 3 * MIB as u64].iter().sum();
        assert_eq!((count, length), (5 * 12, 5 * 2 * round));
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
