//! Several messages at a time, from several senders or one inside the other.

use std::fs::File;
use std::thread;
use std::time::Duration;

use mp_core::{Connection, Message, Receiver, RecvError, Sender, duplex, pipe, process_fn, wait};
use rustix::process::{Signal, getpid, kill_process};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::halves::{HALF, Halves, between_writes};
use super::support::leaks::timed;
use super::support::{PATIENCE, eventually, procfs, scenario};
use super::{MIB, bytes};

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
