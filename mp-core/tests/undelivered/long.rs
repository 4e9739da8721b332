//! Long messages, which would go from hand to hand if they did not hold a value of which there is only one.

use std::sync::atomic::Ordering;

use mp_core::{Message, Receiver, RecvError, SendErrorReason, Sender, pipe, process_fn};
use rustix::process::{Signal, getpid, kill_process};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_bytes::ByteBuf;

use crate::gone;
use crate::only::{Only, RECEIVED};
use crate::support::{eventually, scenario};

const MIB: usize = 1 << 20;

fn bytes(mib: usize) -> ByteBuf {
    ByteBuf::from(vec![7; mib * MIB])
}

/// Only in the middle; what comes last may not be encodable.
#[derive(Debug, Serialize, Deserialize)]
struct Long(ByteBuf, Only, ByteBuf, Last);

impl Long {
    fn new(only: Only) -> Self {
        Self(bytes(2), only, bytes(2), Last { fails: false })
    }
}

#[derive(Debug)]
struct Last {
    fails: bool,
}

impl Serialize for Last {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fails { Err(ser::Error::custom("on purpose")) } else { serializer.serialize_unit() }
    }
}

impl<'de> Deserialize<'de> for Last {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self { fails: false })
    }
}

/// How many messages arrived, and in how many somebody has seen the value of which there is only one.
#[process_fn]
fn count_both(messages: Receiver<Long>) -> (u32, u32) {
    let arrived = messages.iter().map(|message| message.unwrap().1.check()).count() as u32;
    (arrived, RECEIVED.load(Ordering::SeqCst))
}

#[test]
fn a_long_message_goes_whole_and_is_seen_once() {
    scenario!(a_long_message_goes_whole_and_is_seen_once, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_both::spawn(receiver).unwrap();
        let mut sent = 0;
        eventually("a message was taken back from a receiver that waited for it", || {
            let (only, history) = Only::new();
            messages.send(Long::new(only)).unwrap();
            sent += 1;
            gone(&history);
            history.counts().1 > 0
        });
        drop(messages);
        assert_eq!(child.join().unwrap(), (sent, sent));
    });
}

#[test]
fn a_long_message_that_fails_in_the_end_was_not_seen_by_anybody() {
    scenario!(a_long_message_that_fails_in_the_end_was_not_seen_by_anybody, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_both::spawn(receiver).unwrap();
        let mut sent = 0;
        eventually("a message was taken back from a receiver that waited for it", || {
            let (only, history) = Only::new();
            let mut long = Long::new(only);
            long.3.fails = true;
            let mut long = messages.send(long).unwrap_err().value;
            long.1.check();
            let (encoded, undone) = history.counts();
            assert_eq!(encoded, undone);
            long.3.fails = false;
            messages.send(long).unwrap();
            sent += 1;
            gone(&history);
            encoded > 1
        });
        drop(messages);
        assert_eq!(child.join().unwrap(), (sent, sent));
    });
}

#[test]
fn a_value_at_the_beginning_is_encoded_once() {
    scenario!(a_value_at_the_beginning_is_encoded_once, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_first::spawn(receiver).unwrap();
        for _ in 0..30 {
            let (only, history) = Only::new();
            messages.send((only, bytes(2))).unwrap();
            assert_eq!(history.counts(), (1, 0));
        }
        drop(messages);
        assert_eq!(child.join().unwrap(), 30);
    });
}

#[process_fn]
fn count_first(messages: Receiver<(Only, ByteBuf)>) -> usize {
    messages.iter().map(|message| message.unwrap().0.check()).count()
}

/// Refuses a message before it has come to the value.
#[derive(Debug)]
struct Refuses;

impl<'de> Deserialize<'de> for Refuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let first = ByteBuf::deserialize(deserializer)?;
        Err(D::Error::custom(format_args!("refused after {} bytes", first.len())))
    }
}

#[process_fn]
fn refuse_all(messages: Receiver<Refuses>) -> (u32, u32) {
    let refused = messages.iter().map(|message| assert!(matches!(message, Err(RecvError::Decode(_))))).count() as u32;
    (refused, RECEIVED.load(Ordering::SeqCst))
}

#[test]
fn a_message_that_its_receiver_refuses_is_refused_once() {
    scenario!(a_message_that_its_receiver_refuses_is_refused_once, {
        let (messages, receiver) = pipe::<Long>().unwrap();
        // The same socket, taken for another connection.
        let receiver = Message::encode(&receiver).unwrap().decode().unwrap();
        let child = refuse_all::spawn(receiver).unwrap();
        let mut sent = 0;
        eventually("a message was refused before it had come to the value", || {
            let (only, history) = Only::new();
            // A receiver cannot tell how a message goes on that it does not want to read.
            messages.send_ref(&Long::new(only)).unwrap();
            sent += 1;
            !history.is_sent()
        });
        drop(messages);
        assert_eq!(child.join().unwrap(), (sent, 0));
    });
}

/// Dies when it has read the beginning of a message.
#[derive(Debug)]
struct Deadly;

impl<'de> Deserialize<'de> for Deadly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteBuf::deserialize(deserializer)?;
        kill_process(getpid(), Signal::KILL).unwrap();
        Ok(Self)
    }
}

#[process_fn]
fn die_over_a_message(messages: Receiver<Deadly>, ready: Sender<()>) {
    ready.send(()).unwrap();
    drop(messages.recv());
}

#[test]
fn a_receiver_that_dies_in_the_middle_leaves_the_value_gone_or_here() {
    scenario!(a_receiver_that_dies_in_the_middle_leaves_the_value_gone_or_here, {
        let (mut were_gone, mut were_here) = (0, 0);
        for _ in 0..30 {
            let (messages, receiver) = pipe::<Long>().unwrap();
            let receiver = Message::encode(&receiver).unwrap().decode().unwrap();
            let (ready, is_ready) = pipe().unwrap();
            let child = die_over_a_message::spawn(receiver, ready).unwrap();
            is_ready.recv().unwrap();
            let (only, history) = Only::new();
            match messages.send(Long::new(only)) {
                Ok(()) => {
                    gone(&history);
                    were_gone += 1;
                }
                Err(error) => {
                    assert!(matches!(error.reason, SendErrorReason::Disconnected), "{:?}", error.reason);
                    error.value.1.check();
                    were_here += 1;
                }
            }
            child.join().unwrap_err();
        }
        assert_eq!(were_gone + were_here, 30);
    });
}

/// How many messages inside others have arrived whole.
#[process_fn]
fn count_nested(messages: Receiver<(ByteBuf, Message, ByteBuf)>) -> usize {
    messages.iter().map(|message| message.unwrap().1.decode::<Only>().unwrap().check()).count()
}

#[test]
fn a_message_in_the_middle_of_a_long_one_goes_with_the_second_attempt() {
    scenario!(a_message_in_the_middle_of_a_long_one_goes_with_the_second_attempt, {
        let (messages, receiver) = pipe().unwrap();
        let child = count_nested::spawn(receiver).unwrap();
        for _ in 0..20 {
            let (only, history) = Only::new();
            let inner = Message::encode(&only).unwrap();
            messages.send((bytes(2), inner, bytes(2))).unwrap();
            // Whether the first attempt was taken back cannot be seen from here.
            assert_eq!((history.is_sent(), history.counts()), (true, (1, 0)));
        }
        drop(messages);
        assert_eq!(child.join().unwrap(), 20);
    });
}
