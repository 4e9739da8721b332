//! A buffer in a message that is lost, late, long, refused or received twice: whoever dies, it is
//! here whole or it is the receiver's.

use std::sync::Mutex;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{
    Builder, Receiver, RecvError, SendErrorReason, Sender, SpawnError, duplex, pipe, process_fn, set_message_limit,
};
use mp_shm::{Buffer, BufferError};
use mp_testing::faults::{Killer, Random, count, limit};
use mp_testing::scenario;
use rustix::process::{Signal, getpid, kill_process};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MIB: usize = 1 << 20;

fn text(mib: usize) -> String {
    "x".repeat(mib * MIB)
}

fn buffer() -> Buffer<u32> {
    Buffer::from_slice(&[1, 2, 3]).unwrap()
}

/// Fails the test unless the buffer is here, and nobody else can write it.
#[track_caller]
fn here(buffer: &mut Buffer<u32>) {
    assert_eq!(buffer.try_as_slice().unwrap(), [1, 2, 3]);
    let other: Buffer<u32> = Message::encode(&*buffer).unwrap().decode().unwrap();
    assert!(matches!(other.wait(Duration::ZERO), Err(BufferError::InUse)));
}

/// A message that goes from hand to hand, if its receiver waits for it; what comes last may not be
/// encodable.
#[derive(Serialize, Deserialize)]
struct Long(String, Buffer<u32>, String, Last);

struct Last {
    fails: bool,
}

impl Long {
    fn new(fails: bool) -> Self {
        Self(text(2), buffer(), text(2), Last { fails })
    }
}

impl Serialize for Last {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fails { Err(S::Error::custom("on purpose")) } else { serializer.serialize_unit() }
    }
}

impl<'de> Deserialize<'de> for Last {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self { fails: false })
    }
}

scenario!(every_way_of_sending_that_fails_gives_it_back, {
    type Way = fn(&Sender<Buffer<u32>>, Buffer<u32>) -> Result<(), mp_core::SendError<Buffer<u32>>>;
    let ways: [Way; 3] =
        [Sender::send, Sender::try_send, |sender, buffer| sender.send_timeout(buffer, Duration::from_millis(5))];
    let (full, unread) = pipe::<Buffer<u32>>().unwrap();
    while full.try_send(buffer()).is_ok() {}
    for (number, way) in ways.into_iter().enumerate() {
        let (closed, receiver) = pipe().unwrap();
        drop(receiver);
        let mut buffer = way(&closed, buffer()).unwrap_err().value;
        here(&mut buffer);
        // The first would wait for room.
        if number > 0 {
            buffer = way(&full, buffer).unwrap_err().value;
            here(&mut buffer);
        }
        let (sender, receiver) = pipe().unwrap();
        way(&sender, buffer).unwrap();
        here(&mut receiver.recv().unwrap());
    }
    drop(unread);

    let (mine, theirs) = duplex::<Buffer<u32>, ()>().unwrap();
    drop(theirs);
    here(&mut mine.send(buffer()).unwrap_err().value);

    let (sender, receiver) = pipe().unwrap();
    here(&mut sender.send((buffer(), Last { fails: true })).unwrap_err().value.0);
    drop(receiver);
    set_message_limit(1 << 20);
    let (sender, receiver) = pipe().unwrap();
    here(&mut sender.send((buffer(), text(2))).unwrap_err().value.0);
    drop(receiver);
});

#[process_fn]
fn look(lent: &(u32, Buffer<u32>)) -> u32 {
    lent.1.iter().sum()
}

scenario!(a_call_that_cannot_be_spawned_or_never_runs_has_taken_nothing, {
    let mut lent = (7, buffer());
    let error = Builder::new().current_dir("/nowhere/at/all").spawn(look::call(&lent)).unwrap_err();
    assert!(matches!(error, SpawnError::Setting { .. }), "{error:?}");
    here(&mut lent.1);
    drop(look::call(&lent).encode().unwrap());
    here(&mut lent.1);
    let encoded = look::call(&lent).encode().unwrap();
    drop(lent);
    assert_eq!(encoded.run().decode::<u32>().unwrap(), 6);
});

/// Says how many arrived of which it became the owner.
#[process_fn]
fn own(messages: Receiver<Long>) -> usize {
    messages.iter().map(|message| assert_eq!(*message.unwrap().1, [1, 2, 3])).count()
}

scenario!(a_long_message_brings_it_also_after_one_that_failed_in_the_end, {
    let (messages, receiver) = pipe().unwrap();
    let child = own::spawn(receiver).unwrap();
    for _ in 0..20 {
        let mut long = messages.send(Long::new(true)).map_err(|error| error.value).err().unwrap();
        here(&mut long.1);
        long.3.fails = false;
        messages.send(long).map_err(|error| error.reason).unwrap();
    }
    drop(messages);
    assert_eq!(child.join().unwrap(), 20);
});

static KEPT: Mutex<Vec<Buffer<u32>>> = Mutex::new(Vec::new());

/// Keeps the buffer of a message, and refuses the rest.
#[derive(Debug)]
struct Keeps;

impl<'de> Deserialize<'de> for Keeps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keeps;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a long message")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Keeps, A::Error> {
                parts.next_element::<String>()?;
                KEPT.lock().unwrap().extend(parts.next_element::<Buffer<u32>>()?);
                Err(A::Error::custom("refused"))
            }
        }
        deserializer.deserialize_tuple(4, Visitor)
    }
}

/// Refuses each message after it has taken the buffer out of it, and says how many of these it owns
/// when it is asked to.
#[process_fn]
fn keep(messages: Receiver<Keeps>, questions: Receiver<()>, answers: Sender<usize>) {
    for message in messages.iter() {
        assert!(matches!(message, Err(RecvError::Decode(_))));
        questions.recv().unwrap();
        let kept = std::mem::take(&mut *KEPT.lock().unwrap());
        answers.send(kept.iter().filter(|buffer| buffer.try_as_slice().is_ok()).count()).unwrap();
    }
}

scenario!(one_that_keeps_it_out_of_a_message_that_it_refuses_is_its_owner_only_when_its_sender_is_not, {
    let (messages, receiver) = pipe::<Long>().unwrap();
    // The same socket, taken for another connection.
    let receiver = Message::encode(&receiver).unwrap().decode().unwrap();
    let ((ask, asked), (answer, answered)) = (pipe().unwrap(), pipe().unwrap());
    let child = keep::spawn(receiver, asked, answer).unwrap();
    for round in 0..20 {
        let mut long = Long::new(false);
        let is_kept = round % 2 == 0;
        if is_kept {
            messages.send_ref(&long).unwrap();
            here(&mut long.1);
        } else {
            messages.send(long).map_err(|error| error.reason).unwrap();
            long = Long::new(false);
        }
        ask.send(()).unwrap();
        assert_eq!(answered.recv().unwrap(), usize::from(!is_kept), "in round {round}");
        here(&mut long.1);
    }
    drop(messages);
    child.join().unwrap();
});

/// Dies when it has read the beginning of a message.
#[derive(Debug)]
struct Deadly;

impl<'de> Deserialize<'de> for Deadly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?;
        kill_process(getpid(), Signal::KILL).unwrap();
        Ok(Self)
    }
}

#[process_fn]
fn die_over_a_message(messages: Receiver<Deadly>, ready: Sender<()>) {
    ready.send(()).unwrap();
    drop(messages.recv());
}

scenario!(a_receiver_that_dies_in_the_middle_leaves_it_gone_or_here, {
    for _ in 0..30 {
        let (messages, receiver) = pipe::<Long>().unwrap();
        let receiver = Message::encode(&receiver).unwrap().decode().unwrap();
        let (ready, is_ready) = pipe().unwrap();
        let child = die_over_a_message::spawn(receiver, ready).unwrap();
        is_ready.recv().unwrap();
        let long = Long::new(false);
        let reclaimer = long.1.reclaimer().unwrap();
        match messages.send(long) {
            // With the dead, and nobody's.
            Ok(()) => {
                child.join().unwrap_err();
                here(&mut reclaimer.reclaim().unwrap());
            }
            Err(mut error) => {
                assert!(matches!(error.reason, SendErrorReason::Disconnected), "{:?}", error.reason);
                here(&mut error.value.1);
                reclaimer.reclaim().unwrap_err();
                child.join().unwrap_err();
            }
        }
    }
});

#[process_fn]
fn receive_for_ever(buffers: Receiver<Buffer<u32>>, begun: Sender<()>) {
    for (number, buffer) in buffers.iter().enumerate() {
        assert_eq!(*buffer.unwrap(), [1, 2, 3]);
        if number == 0 {
            begun.send(()).unwrap();
        }
    }
}

/// How many are killed if nobody says otherwise.
const ENDS: u64 = 40;

scenario!(of_a_receiver_that_is_killed_at_any_instant_each_buffer_is_gone_or_here, limit(count(ENDS)), {
    let (mut random, killer) = (Random::new(), Killer::new());
    for _ in 0..count(ENDS) {
        let (sender, receiver) = pipe().unwrap();
        let (begun, begins) = pipe().unwrap();
        let child = receive_for_ever::spawn(receiver, begun).unwrap();
        sender.send(buffer()).unwrap();
        begins.recv().unwrap();
        killer.kill(&child, random.moment(Duration::from_millis(3)));
        let mut last = loop {
            match sender.send(buffer()) {
                Ok(()) => {}
                Err(error) => break error.value,
            }
        };
        here(&mut last);
        killer.finish();
        child.join().unwrap_err();
    }
    killer.end();
});
