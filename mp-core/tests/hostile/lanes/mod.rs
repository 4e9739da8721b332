//! The same for what comes through a lane: a stream socket that a packet offers to a receiver that waits without a deadline.

mod frames;
mod nested;
mod offers;

use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::read;

use super::*;
use crate::support::{PATIENCE, holds_within};

const OFFER: u8 = 2;

const PART: u8 = 0;
const END: u8 = 1;
const ABORT: u8 = 2;
const WITHDRAWN: u8 = 3;

/// Bytes that go into a lane, and how many descriptors beside the first of them.
type Script = Vec<(Vec<u8>, usize)>;

fn frame(kind: u8, handles: u8, length: usize, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, handles, 0, 0];
    frame.extend((length as u32).to_le_bytes());
    frame.extend(body);
    frame
}

/// A frame without descriptors that is as long as it says.
fn honest(kind: u8, body: &[u8]) -> (Vec<u8>, usize) {
    (frame(kind, 0, body.len(), body), 0)
}

/// The whole of a value, but not the end.
fn value() -> (Vec<u8>, usize) {
    honest(PART, b"\x04lane")
}

/// How the peer goes about it.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// Everything was sent, and the lane closed, before it was offered.
    Before,
    /// Byte for byte after the receiver has answered.
    Answered,
    /// The same, and the receiver's end cannot be waited for by reading it.
    NonBlocking,
}

const PACES: [Pace; 3] = [Pace::Before, Pace::Answered, Pace::NonBlocking];

/// The ways to receive that accept an offer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Value,
    Bytes,
    Into,
}

const WAYS: [Way; 3] = [Way::Value, Way::Bytes, Way::Into];

/// What was received, as it was encoded.
fn receive(receiver: &Receiver<ByteBuf>, way: Way) -> Result<Vec<u8>, RecvError> {
    match way {
        Way::Value => receiver.recv().map(|bytes| [&[bytes.len() as u8], &bytes[..]].concat()),
        Way::Bytes => receiver.recv_bytes(),
        Way::Into => {
            let mut buffer = [0; 32];
            receiver.recv_bytes_into(&mut buffer).map(|length| buffer[..length].to_vec())
        }
    }
}

/// Sends what there is, as far as the receiver wants it, and closes the lane.
fn perform(near: OwnedFd, script: &Script, pace: Pace) {
    let handle = null();
    if !matches!(pace, Pace::Before) {
        let mut answer = [0; 1];
        match read(&near, &mut answer) {
            Ok(1) => assert_eq!(answer, [1]),
            // It is not accepted.
            _ => return,
        }
    }
    for (bytes, handles) in script {
        let step = if matches!(pace, Pace::Before) { bytes.len().max(1) } else { 1 };
        let mut beside = vec![handle.as_fd(); *handles];
        for some in bytes.chunks(step) {
            if try_send(&near, some, &beside).is_err() {
                return;
            }
            beside.clear();
        }
    }
}

impl Attack<ByteBuf> {
    /// Offers a lane with this in it, and returns what its receiver says.
    fn offer(&self, script: &Script, pace: Pace, way: Way) -> Result<Vec<u8>, RecvError> {
        self.offer_before(script, pace, way, &[])
    }

    /// The same, with another message behind the offer unless it is empty.
    fn offer_before(&self, script: &Script, pace: Pace, way: Way, next: &[u8]) -> Result<Vec<u8>, RecvError> {
        let (near, far) = sockets(SocketType::STREAM);
        if let Pace::NonBlocking = pace {
            fcntl_setfl(&far, fcntl_getfl(&far).unwrap() | OFlags::NONBLOCK).unwrap();
        }
        thread::scope(|scope| {
            match pace {
                Pace::Before => perform(near, script, pace),
                _ => drop(scope.spawn(move || perform(near, script, pace))),
            }
            send(&self.raw, &packet(OFFER, 0, 0, 0, &[]), &[far.as_fd()]);
            drop(far);
            if !next.is_empty() {
                send(&self.raw, &packet(INLINE, 0, 0, next.len() as u64, next), &[]);
            }
            receive(&self.receiver, way)
        })
    }

    /// Fails unless each of the scripts, in every way, is an error such as this, and the next message arrives.
    #[track_caller]
    fn refuses(&self, scripts: &[Script], is_right: impl Fn(&RecvError) -> bool) {
        for script in scripts {
            for (pace, way) in PACES.into_iter().flat_map(|pace| WAYS.map(|way| (pace, way))) {
                match self.offer(script, pace, way) {
                    Err(error) if is_right(&error) => {}
                    other => panic!("{script:?} {pace:?} {way:?}: {other:?}"),
                }
                self.goes_on();
            }
        }
    }

    /// Fails if something is left, or a good message does not arrive.
    #[track_caller]
    fn goes_on(&self) {
        let mut now = Resources::of_this_process();
        // A thread of ours that has ended is there for a moment more.
        let settled = holds_within(PATIENCE, || {
            now = Resources::of_this_process();
            now == self.before
        });
        assert!(settled, "{now:#?} instead of {:#?}", self.before);
        send(&self.raw, &packet(INLINE, 0, 0, 5, b"\x04good"), &[]);
        assert_eq!(self.receiver.try_recv().unwrap().unwrap(), b"good");
    }
}

#[test]
fn what_is_right_arrives_at_any_pace() {
    scenario!(what_is_right_arrives_at_any_pace, {
        let attack = Attack::<ByteBuf>::new();
        let scripts: [Script; 4] = [
            vec![value(), honest(END, &[])],
            vec![honest(PART, b"\x04"), honest(PART, b""), honest(PART, b"la"), honest(PART, b"ne"), honest(END, b"")],
            // What stands behind the end is nobody's.
            vec![value(), honest(END, &[]), (vec![0xFF; 100], 2)],
            // Descriptors beside the body, where none are looked for.
            vec![(frame(PART, 0, 5, b""), 0), (b"\x04lane".to_vec(), 2), honest(END, &[])],
        ];
        for (index, script) in scripts.iter().enumerate() {
            for (pace, way) in PACES.into_iter().flat_map(|pace| WAYS.map(|way| (pace, way))) {
                match attack.offer(script, pace, way) {
                    Ok(received) => assert_eq!(received, b"\x04lane"),
                    Err(RecvError::Malformed(_)) if index == 3 => {}
                    other => panic!("{script:?} {pace:?} {way:?}: {other:?}"),
                }
                attack.goes_on();
            }
        }
    });
}

#[test]
fn lanes_of_chance_are_errors_or_values_and_leave_nothing() {
    scenario!(lanes_of_chance_are_errors_or_values_and_leave_nothing, {
        let attack = Attack::<ByteBuf>::new();
        let (mut whole, mut errors, mut nothing) = (0, 0, 0);
        for seed in 1..=5_000 {
            let mut random = Random(seed);
            let odd = |random: &mut Random| random.below(12) == 0;
            let mut script = Script::new();
            for index in 0..random.below(5) {
                // Mostly of the right form, so that some get far.
                let body = if index == 0 { &b"\x04lane"[..] } else { b"" };
                let kind = if odd(&mut random) { random.below(5) as u8 } else { (index != 0).into() };
                let length = if odd(&mut random) { random.next() as usize } else { body.len() };
                let (said, come) = if odd(&mut random) { (random.below(3) as u8, random.below(3)) } else { (0, 0) };
                let mut bytes = frame(kind, said, length, body);
                if odd(&mut random) {
                    let place = random.below(bytes.len() as u64) as usize;
                    bytes[place] = random.next() as u8;
                }
                if odd(&mut random) {
                    bytes.truncate(random.below(bytes.len() as u64) as usize);
                }
                script.push((bytes, come as usize));
            }
            let pace = PACES[random.below(3) as usize];
            let result = attack.offer_before(&script, pace, WAYS[random.below(3) as usize], b"\x04next");
            if matches!(&result, Ok(received) if received == b"\x04next") {
                nothing += 1;
                continue;
            }
            *(if result.is_ok() { &mut whole } else { &mut errors }) += 1;
            assert_eq!(attack.receiver.try_recv().unwrap().unwrap(), b"next", "{script:?} {pace:?}: {result:?}");
        }
        assert!(whole > 100 && errors > 100 && nothing > 10, "{whole} whole, {errors} errors, {nothing} taken back");
        attack.goes_on();
    });
}
