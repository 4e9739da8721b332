//! Large messages between a sender and a receiver that both take their time: they go from hand to hand, and whatever happens in the
//! middle, a message arrives whole or not at all.

#[path = "lanes/contents.rs"]
mod contents;
#[path = "lanes/halves.rs"]
mod halves;
mod support;
#[path = "lanes/together.rs"]
mod together;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use halves::{Halves, between_reads, between_writes};
use mp_core::{Connection, Message, Receiver, RecvError, SendErrorReason, Sender, duplex, pipe, process_fn};
use rustix::process::{Signal, getpid, kill_process};
use serde_bytes::ByteBuf;
use support::{PATIENCE, eventually, scenario};

const MIB: usize = 1 << 20;

fn bytes(size: usize, seed: usize) -> Vec<u8> {
    // Repeated, because byte by byte is slow without optimisation.
    let period: Vec<u8> = (0..251).map(|index| ((index + seed) * 31 % 251) as u8).collect();
    let mut bytes = period.repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
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
