//! Senders and receivers are killed at instants of chance in the middle of their messages. Whoever
//! is left sees whole messages, then the end; or half a message before it, if that one was long,
//! and is told so.

use std::time::Duration;

use mp_core::{Connection, Process, Receiver, RecvError, SendErrorReason, Sender, duplex, pipe, process_fn};
use mp_testing::faults::{Killer, Random, busy, count, limit};
use mp_testing::leaks::Resources;
use mp_testing::scenario;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// How many are killed if nobody says otherwise.
const ENDS: u64 = 60;

/// How long after its first message an end may live.
const LIFE: Duration = Duration::from_millis(4);

/// A message that says what it has to be: bytes that follow from its number, and handles that hold
/// it.
#[derive(Serialize, Deserialize)]
struct Numbered {
    number: u32,
    bytes: ByteBuf,
    handles: Vec<Receiver<u32>>,
}

impl Numbered {
    fn new(number: u32) -> Self {
        let (size, handles) = match number % 7 {
            0 => (300_000, 0),
            2 => (40_000, 2),
            4 => (300_000, 1),
            5 if number % 5 == 0 => (10, 260),
            small => (small as usize, 0),
        };
        let handle = |_| {
            let (sender, receiver) = pipe().unwrap();
            sender.send(number).unwrap();
            receiver
        };
        Self { number, bytes: ByteBuf::from(vec![number as u8; size]), handles: (0..handles).map(handle).collect() }
    }

    #[track_caller]
    fn check(&self) {
        let expected = Self::new(self.number);
        assert_eq!(self.handles.len(), expected.handles.len(), "{}", self.number);
        assert!(self.bytes == expected.bytes, "{}", self.number);
        for handle in &self.handles {
            assert_eq!(handle.iter().map(Result::unwrap).collect::<Vec<_>>(), [self.number]);
        }
    }
}

/// Reads to the end, and returns the numbers of the messages.
#[track_caller]
fn read_to_the_end(receive: impl Fn() -> Result<Numbered, RecvError>) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        match receive() {
            Ok(message) => {
                message.check();
                numbers.push(message.number);
            }
            Err(RecvError::Disconnected) => return numbers,
            Err(other) => panic!("after {numbers:?}: {other:?}"),
        }
    }
}

#[process_fn]
fn send_for_ever(sender: Sender<Numbered>) {
    for number in 0.. {
        sender.send(Numbered::new(number)).unwrap();
    }
}

scenario!(a_sender_that_is_killed_at_any_instant_leaves_whole_messages_and_then_the_end, limit(count(ENDS)), {
    let (mut random, killer) = (Random::new(), Killer::new());
    let before = Resources::of_this_process();
    for round in 0..count(ENDS) {
        let (sender, receiver) = pipe().unwrap();
        let process = send_for_ever::spawn(sender).unwrap();
        assert_eq!(receiver.recv().unwrap().number, 0);
        killer.kill(&process, random.moment(LIFE));
        let numbers = read_to_the_end(|| receiver.recv());
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "round {round}: {numbers:?}");
        killer.finish();
        process.join().unwrap_err();
        drop(receiver);
        assert_eq!(Resources::of_this_process(), before, "round {round}");
    }
    killer.end();
});

#[process_fn]
fn receive_for_ever(receiver: Receiver<Numbered>, begun: Sender<()>) {
    for message in &receiver {
        message.unwrap().check();
        let _ = begun.send(());
    }
}

scenario!(a_receiver_that_is_killed_at_any_instant_is_an_error_that_gives_the_message_back, limit(count(ENDS)), {
    let (mut random, killer) = (Random::new(), Killer::new());
    let before = Resources::of_this_process();
    for round in 0..count(ENDS) {
        let (sender, receiver) = pipe().unwrap();
        let (begun, begins) = pipe().unwrap();
        let process = receive_for_ever::spawn(receiver, begun).unwrap();
        sender.send(Numbered::new(0)).unwrap();
        begins.recv().unwrap();
        drop(begins);
        killer.kill(&process, random.moment(LIFE));
        let refused = (1..).find_map(|number| sender.send(Numbered::new(number)).err()).unwrap();
        assert!(matches!(refused.reason, SendErrorReason::Disconnected), "round {round}: {refused:?}");
        refused.into_inner().check();
        killer.finish();
        process.join().unwrap_err();
        drop(sender);
        assert_eq!(Resources::of_this_process(), before, "round {round}");
    }
    killer.end();
});

#[process_fn]
fn exchange(connection: Connection<Numbered, Numbered>, seed: u64) {
    let mut random = Random::seeded(seed);
    for number in 0.. {
        busy(random.moment(Duration::from_micros(50)));
        connection.send(Numbered::new(number)).unwrap();
        connection.recv().unwrap().check();
    }
}

// As a pool does: what was asked may be lost, what was answered is not.
scenario!(
    a_peer_that_is_killed_at_any_instant_of_an_exchange_leaves_whole_messages_and_then_the_end,
    limit(count(ENDS)),
    {
        let (mut random, killer) = (Random::new(), Killer::new());
        let before = Resources::of_this_process();
        for round in 0..count(ENDS) {
            let (mine, theirs) = duplex().unwrap();
            let process: Process<()> = exchange::spawn(theirs, random.next()).unwrap();
            assert_eq!(mine.recv().unwrap().number, 0);
            killer.kill(&process, random.moment(LIFE));
            for number in 0.. {
                match mine.send(Numbered::new(number)) {
                    Ok(()) => match mine.recv() {
                        Ok(answer) => {
                            answer.check();
                            assert_eq!(answer.number, number + 1);
                        }
                        Err(RecvError::Disconnected) => break,
                        Err(other) => panic!("round {round}: {other:?}"),
                    },
                    Err(error) if matches!(error.reason, SendErrorReason::Disconnected) => {
                        // What it had sent before is still there.
                        assert!(read_to_the_end(|| mine.recv()).len() <= 1);
                        break;
                    }
                    Err(other) => panic!("round {round}: {other:?}"),
                }
            }
            killer.finish();
            process.join().unwrap_err();
            drop(mine);
            assert_eq!(Resources::of_this_process(), before, "round {round}");
        }
        killer.end();
    }
);

// Those who share a queue with one that is killed lose nothing but what it had taken.
scenario!(a_receiver_that_is_killed_at_any_instant_takes_only_its_own_messages_with_it, limit(count(ENDS)), {
    let (mut random, killer) = (Random::new(), Killer::new());
    let before = Resources::of_this_process();
    for round in 0..count(ENDS) {
        let (sender, receiver) = pipe().unwrap();
        let (begun, begins) = pipe().unwrap();
        let process = receive_for_ever::spawn(receiver.try_clone().unwrap(), begun).unwrap();
        sender.send(Numbered::new(0)).unwrap();
        begins.recv().unwrap();
        killer.kill(&process, random.moment(LIFE));
        let sending = std::thread::spawn(move || {
            for number in 1..=60 {
                sender.send(Numbered::new(number)).unwrap();
            }
        });
        let mut numbers = read_to_the_end(|| receiver.recv());
        assert!(numbers.is_sorted_by(|a, b| a < b), "round {round}: {numbers:?}");
        sending.join().unwrap();
        killer.finish();
        // It is either killed or has seen the end.
        let killed = process.join().is_err();
        // It says so after each that it has looked at; the last one it may have taken without.
        let taken = begins.iter().count();
        numbers.dedup();
        let lost = 60 - numbers.len() - taken;
        assert!(lost <= usize::from(killed), "round {round}: {lost} were lost");
        drop((receiver, begins));
        assert_eq!(Resources::of_this_process(), before, "round {round}");
    }
    killer.end();
});
