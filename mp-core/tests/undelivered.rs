//! Values that are given away by sending them learn whether they were: by every way of sending, and whoever dies.

#[path = "undelivered/long.rs"]
mod long;
#[path = "undelivered/only.rs"]
mod only;
#[cfg(feature = "async")]
#[path = "support/reactor.rs"]
mod reactor;
mod support;
#[cfg(feature = "async")]
#[path = "undelivered/tasks.rs"]
mod tasks;

use std::time::Duration;

use mp_core::{
    Builder, Connection, EncodedCall, Message, Receiver, SendError, SendErrorReason, Sender, SpawnError, duplex, fd,
    pipe, process_fn,
};
use only::{History, Only};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize, Serializer, ser};
use serde_bytes::ByteBuf;
use support::faults::{Killer, Random, count, limit};
use support::{eventually, scenario};

const SOON: Duration = Duration::from_millis(5);

/// Fails the test unless the value has come back whole with an error, once.
#[track_caller]
fn given_back(result: Result<(), SendError<Only>>, history: &History) -> Only {
    let only = result.unwrap_err().value;
    only.check();
    assert_eq!(history.counts(), (1, 1));
    only
}

#[track_caller]
fn gone(history: &History) {
    assert!(history.is_sent());
    let (encoded, undone) = history.counts();
    assert_eq!(encoded, undone + 1);
}

fn fill(sender: &Sender<Only>) {
    while sender.try_send_bytes(&[0; 30_000]).is_ok() {}
}

type Way = fn(&Sender<Only>, Only) -> Result<(), SendError<Only>>;
type TwoWay = fn(&Connection<Only, Only>, Only) -> Result<(), SendError<Only>>;

const WAYS: [Way; 3] =
    [Sender::send, Sender::try_send, |sender, only| sender.send_timeout(only, Duration::from_secs(20))];
const TWO_WAYS: [TwoWay; 3] =
    [Connection::send, Connection::try_send, |connection, only| connection.send_timeout(only, Duration::from_secs(20))];

#[test]
fn a_value_that_was_sent_is_gone_and_its_receiver_has_it() {
    scenario!(a_value_that_was_sent_is_gone_and_its_receiver_has_it, {
        let (sender, receiver) = pipe().unwrap();
        for way in WAYS {
            let (only, history) = Only::new();
            way(&sender, only).unwrap();
            gone(&history);
            receiver.recv().unwrap().check();
            assert_eq!(history.counts(), (1, 0));
        }
        let (only, history) = Only::new();
        sender.send_ref(&only).unwrap();
        gone(&history);
        // It is somebody else's.
        assert!(matches!(sender.send_ref(&only).unwrap_err().reason, SendErrorReason::Encode(_)));
        assert!(matches!(sender.send(only).unwrap_err().reason, SendErrorReason::Encode(_)));
        receiver.recv().unwrap().check();
        assert!(receiver.try_recv().unwrap().is_none());

        let (mine, theirs) = duplex::<Only, Only>().unwrap();
        for way in TWO_WAYS {
            let (only, history) = Only::new();
            way(&mine, only).unwrap();
            gone(&history);
            // Back again.
            theirs.send(theirs.recv().unwrap()).unwrap();
            mine.recv().unwrap().check();
        }
        // Nobody has to look at it.
        let (only, history) = Only::new();
        mine.send_ref(&only).unwrap();
        drop((mine, theirs));
        gone(&history);
    });
}

#[test]
fn a_value_that_nobody_can_receive_is_given_back_whole_and_can_be_sent_again() {
    scenario!(a_value_that_nobody_can_receive_is_given_back_whole_and_can_be_sent_again, {
        for way in WAYS {
            let (sender, receiver) = pipe().unwrap();
            drop(receiver);
            let (only, history) = Only::new();
            let only = given_back(way(&sender, only), &history);
            sender.send_ref(&only).unwrap_err();
            assert_eq!(history.counts(), (2, 2));
            let (sender, receiver) = pipe().unwrap();
            sender.send(only).unwrap();
            gone(&history);
            receiver.recv().unwrap().check();
        }
        for way in TWO_WAYS {
            let (mine, theirs) = duplex().unwrap();
            drop(theirs);
            let (only, history) = Only::new();
            let only = given_back(way(&mine, only), &history);
            mine.send_ref(&only).unwrap_err();
            assert_eq!(history.counts(), (2, 2));
        }
    });
}

#[test]
fn a_value_for_which_there_is_no_room_is_given_back_whole() {
    scenario!(a_value_for_which_there_is_no_room_is_given_back_whole, {
        let (sender, receiver) = pipe::<Only>().unwrap();
        fill(&sender);
        let (only, history) = Only::new();
        let full = sender.try_send(only);
        assert!(matches!(full, Err(SendError { reason: SendErrorReason::Full, .. })));
        let only = given_back(full, &history);
        let late = sender.send_timeout(only, SOON);
        assert!(matches!(late, Err(SendError { reason: SendErrorReason::TimedOut, .. })));
        assert_eq!(history.counts(), (2, 2));
        late.unwrap_err().value.check();
        drop(receiver);
    });
}

#[test]
fn a_long_message_that_waits_for_its_turn_in_vain_is_given_back_whole() {
    scenario!(a_long_message_that_waits_for_its_turn_in_vain_is_given_back_whole, {
        let (sender, receiver) = pipe::<(Only, ByteBuf)>().unwrap();
        let long = || ByteBuf::from(vec![1; 100_000]);
        let (first, first_history) = Only::new();
        sender.send((first, long())).unwrap();
        let (second, history) = Only::new();
        let (second, _) = sender.try_send((second, long())).unwrap_err().value;
        second.check();
        let (second, _) = sender.send_timeout((second, long()), SOON).unwrap_err().value;
        second.check();
        assert_eq!(history.counts(), (2, 2));
        gone(&first_history);
        receiver.recv().unwrap().0.check();
        sender.send((second, long())).unwrap();
        gone(&history);
        receiver.recv().unwrap().0.check();
    });
}

struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("on purpose"))
    }
}

#[test]
fn a_message_that_cannot_be_encoded_gives_back_what_it_holds() {
    scenario!(a_message_that_cannot_be_encoded_gives_back_what_it_holds, {
        let (sender, receiver) = pipe().unwrap();
        let (only, history) = Only::new();
        let (only, Fails) = sender.send((only, Fails)).unwrap_err().value;
        only.check();
        assert_eq!(history.counts(), (1, 1));
        drop(receiver);

        mp_core::set_message_limit(1 << 20);
        let (sender, receiver) = pipe().unwrap();
        let (only, _) = sender.send((only, ByteBuf::from(vec![0; 2 << 20]))).unwrap_err().value;
        only.check();
        assert_eq!(history.counts(), (2, 2));
        drop(receiver);
    });
}

#[process_fn]
fn look(only: Only, lent: &(u32, Vec<Only>)) -> usize {
    only.check();
    lent.1.iter().for_each(Only::check);
    lent.1.len()
}

#[test]
fn a_call_gives_its_arguments_away_if_it_could_be_spawned() {
    scenario!(a_call_gives_its_arguments_away_if_it_could_be_spawned, {
        let (first, first_history) = Only::new();
        let (second, second_history) = Only::new();
        let lent = (7, vec![second]);
        let nowhere = Builder::new().current_dir("/nowhere/at/all");
        let error = nowhere.spawn(look::call(first, &lent)).unwrap_err();
        assert!(matches!(error, SpawnError::Setting { .. }), "{error:?}");
        assert_eq!((first_history.counts(), second_history.counts()), ((1, 1), (1, 1)));
        lent.1[0].check();

        let (first, first_history) = Only::new();
        let child = look::spawn(first, &lent).unwrap();
        gone(&first_history);
        gone(&second_history);
        assert_eq!(child.join().unwrap(), 1);

        // A child that dies before it has looked is no failure to send.
        let (first, first_history) = Only::new();
        let child = look::spawn(first, &(0, Vec::new())).unwrap();
        child.kill().unwrap();
        drop(child.join());
        gone(&first_history);
    });
}

#[test]
fn an_encoded_call_gives_its_arguments_away_when_it_runs_and_back_when_it_does_not() {
    scenario!(an_encoded_call_gives_its_arguments_away_when_it_runs_and_back_when_it_does_not, {
        let (only, history) = Only::new();
        let lent = (7, vec![only]);
        let encode = || {
            let (only, history) = Only::new();
            (look::call(only, &lent).encode().unwrap(), history)
        };
        let (encoded, owned) = encode();
        drop(encoded);
        assert_eq!((history.counts(), owned.counts()), ((1, 1), (1, 1)));

        let (encoded, _) = encode();
        let (sender, receiver) = pipe::<EncodedCall>().unwrap();
        sender.send(encoded).unwrap();
        gone(&history);
        let received = receiver.recv().unwrap();
        assert!(sender.send_ref(&received).is_ok());
        assert!(sender.send_ref(&received).is_err(), "there is only one");
        assert_eq!(receiver.recv().unwrap().run().decode::<usize>().unwrap(), 1);
        gone(&history);
    });
}

#[test]
fn a_message_inside_others_is_given_back_when_all_are_gone() {
    scenario!(a_message_inside_others_is_given_back_when_all_are_gone, {
        let (sender, receiver) = pipe::<(u32, Message)>().unwrap();
        while sender.try_send_bytes(&[0; 30_000]).is_ok() {}
        let (only, history) = Only::new();
        let message = Message::encode(&only).unwrap();
        let error = sender.try_send((1, message)).unwrap_err();
        // It still stands in the message that was given back.
        gone(&history);
        let (_, message) = error.value;
        while receiver.try_recv_bytes().unwrap().is_some() {}
        sender.send((2, message)).unwrap();
        gone(&history);
        receiver.recv().unwrap().1.decode::<Only>().unwrap().check();
        assert_eq!(history.counts(), (1, 0));
        drop(only);

        let (only, history) = Only::new();
        let message = Message::encode(&only).unwrap();
        drop(receiver);
        drop(sender.send((3, message)).unwrap_err());
        only.check();
        assert_eq!(history.counts(), (1, 1));
    });
}

/// A result that tells when it is given back.
#[derive(Deserialize)]
struct Told(Sender<String>);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words = self.0.try_clone().unwrap();
        fd::if_undelivered(move || words.send("given back".to_owned()).unwrap());
        self.0.serialize(serializer)
    }
}

#[process_fn]
fn return_when_told(go: Receiver<()>, words: Sender<String>) -> Told {
    // Or when nobody can tell any more.
    let _ = go.recv();
    Told(words)
}

#[test]
fn a_result_that_nobody_wants_is_given_back() {
    scenario!(a_result_that_nobody_wants_is_given_back, {
        let ((go, gone), (words, heard)) = (pipe().unwrap(), pipe().unwrap());
        let child = return_when_told::spawn(gone, words).unwrap();
        go.send(()).unwrap();
        let Told(words) = child.join().unwrap();
        words.send("received".to_owned()).unwrap();
        drop(words);
        assert_eq!(heard.iter().collect::<Result<Vec<_>, _>>().unwrap(), ["received"]);

        let ((go, gone), (words, heard)) = (pipe::<()>().unwrap(), pipe().unwrap());
        drop(return_when_told::spawn(gone, words).unwrap());
        drop(go);
        assert_eq!(heard.iter().collect::<Result<Vec<_>, _>>().unwrap(), ["given back"]);
        eventually("the child is gone", || mp_core::active_children().is_empty());
    });
}

#[process_fn]
fn receive_for_ever(values: Receiver<Only>, begun: Sender<()>) {
    for (number, only) in values.iter().enumerate() {
        only.unwrap().check();
        if number == 0 {
            begun.send(()).unwrap();
        }
    }
}

/// How many are killed if nobody says otherwise.
const ENDS: u64 = 40;

#[test]
fn of_a_receiver_that_is_killed_at_any_instant_each_value_is_gone_or_here() {
    scenario!(of_a_receiver_that_is_killed_at_any_instant_each_value_is_gone_or_here, limit(count(ENDS)), {
        let (mut random, killer) = (Random::new(), Killer::new());
        for _ in 0..count(ENDS) {
            let (sender, receiver) = pipe().unwrap();
            let (begun, begins) = pipe().unwrap();
            let child = receive_for_ever::spawn(receiver, begun).unwrap();
            sender.send(Only::new().0).unwrap();
            begins.recv().unwrap();
            killer.kill(&child, random.moment(Duration::from_millis(3)));
            loop {
                let (only, history) = Only::new();
                match sender.send(only) {
                    Ok(()) => gone(&history),
                    refused => {
                        given_back(refused, &history);
                        break;
                    }
                }
            }
            killer.finish();
            child.join().unwrap_err();
        }
        killer.end();
    });
}

#[process_fn]
fn run_and_be_killed(only: Only) {
    only.check();
    kill_process(getpid(), Signal::KILL).unwrap();
}

#[test]
fn what_a_child_has_received_is_gone_with_it() {
    scenario!(what_a_child_has_received_is_gone_with_it, {
        let (only, history) = Only::new();
        run_and_be_killed::spawn(only).unwrap().join().unwrap_err();
        gone(&history);
    });
}
