//! The same for what comes through a lane: a stream socket that a packet offers to a receiver that waits without a deadline.

use std::thread;
use std::time::Duration;

use mp_core::{message_limit, set_message_limit};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::read;
use rustix::net::SocketAddrUnix;

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
fn a_lane_that_is_no_connected_stream_is_an_error() {
    scenario!(a_lane_that_is_no_connected_stream_is_an_error, {
        let attack = Attack::<ByteBuf>::new();
        let offer = packet(OFFER, 0, 0, 0, &[]);
        for way in WAYS {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let (datagram, _datagram_peer) = sockets(SocketType::DGRAM);
            let (packets, _packets_peer) = sockets(SocketType::SEQPACKET);
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let remote = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
            let lanes = [
                ("/dev/null", null()),
                ("the reading end of a pipe", reader),
                ("the writing end of a pipe", writer),
                ("a memory file", memory(&[0; 64], ALL_SEALS)),
                ("datagrams", datagram),
                ("packets", packets),
                ("a listening TCP socket", tcp.into()),
                ("a TCP connection", remote.into()),
            ];
            for (what, lane) in &lanes {
                send(&attack.raw, &offer, &[lane.as_fd()]);
                let result = receive(&attack.receiver, way);
                assert!(matches!(result, Err(RecvError::Malformed(_))), "{what}, {way:?}: {result:?}");
            }
            let unconnected = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            let listening = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            rustix::net::bind(&listening, &SocketAddrUnix::new_unnamed()).unwrap();
            rustix::net::listen(&listening, 1).unwrap();
            for lane in [&unconnected, &listening] {
                send(&attack.raw, &offer, &[lane.as_fd()]);
                let result = receive(&attack.receiver, way);
                let refused = matches!(result, Err(RecvError::Malformed(_) | RecvError::Io(_) | RecvError::Truncated));
                assert!(refused, "{lane:?}, {way:?}: {result:?}");
            }
            drop((lanes, unconnected, listening, _datagram_peer, _packets_peer));
            attack.goes_on();
        }
    });
}

#[test]
fn an_offer_of_another_form_is_malformed_and_not_answered() {
    scenario!(an_offer_of_another_form_is_malformed_and_not_answered, {
        let attack = Attack::<ByteBuf>::new();
        // Flags, handles, length, body, and how many descriptors come.
        let cases: [(u8, u32, u64, &[u8], usize); 13] = [
            (0, 0, 0, &[], 0),
            (0, 0, 0, &[], 2),
            (0, 0, 0, &[], 253),
            (0, 1, 0, &[], 1),
            (0, 1, 0, &[], 2),
            (0, u32::MAX, 0, &[], 1),
            (RECEIPT, 0, 0, &[], 1),
            (RECEIPT, 0, 0, &[], 2),
            (BUNDLE, 0, 0, &[], 2),
            (4, 0, 0, &[], 1),
            (0, 0, 4, &[], 1),
            (0, 0, 0, &[1, 2, 3, 4], 1),
            (0, 0, 4, &[1, 2, 3, 4], 1),
        ];
        let handle = null();
        let offers = cases.map(|(flags, count, length, body, come)| (packet(OFFER, flags, count, length, body), come));
        let mut padded = [packet(OFFER, 0, 0, 0, &[]), packet(OFFER, 0, 0, 0, &[])];
        padded[0][2] = 1;
        padded[1][3] = 1;
        for (packet, come) in offers.into_iter().chain(padded.map(|packet| (packet, 1))) {
            for way in WAYS.map(Some).into_iter().chain([None]) {
                let (near, far) = sockets(SocketType::STREAM);
                let mut beside = vec![far.as_fd(); come.min(1)];
                beside.resize(come, handle.as_fd());
                let error = match way {
                    Some(way) => {
                        send(&attack.raw, &packet, &beside);
                        receive(&attack.receiver, way).unwrap_err()
                    }
                    None => attack.send(&packet, &beside),
                };
                assert!(matches!(error, RecvError::Malformed(_)), "{packet:?}, {come}, {way:?}: {error:?}");
                drop(far);
                assert_eq!(read(&near, &mut [0; 1]), Ok(0), "{packet:?}, {come}, {way:?} was answered");
            }
        }
        drop(handle);
        attack.goes_on();
    });
}

#[test]
fn who_has_a_deadline_declines_an_offer() {
    scenario!(who_has_a_deadline_declines_an_offer, {
        let attack = Attack::<ByteBuf>::new();
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            let (near, far) = sockets(SocketType::STREAM);
            send(&attack.raw, &packet(OFFER, 0, 0, 0, &[]), &[far.as_fd()]);
            drop(far);
            assert!(attack.receiver.recv_timeout(timeout).unwrap().is_none());
            assert_eq!(read(&near, &mut [0; 1]), Ok(0));
            drop(near);
            attack.goes_on();
        }
    });
}

#[test]
fn a_lane_that_ends_early_is_truncated() {
    scenario!(a_lane_that_ends_early_is_truncated, {
        let attack = Attack::<ByteBuf>::new();
        let cut = |bytes: Vec<u8>, length: usize| (bytes[..length].to_vec(), 0);
        let mut scripts: Vec<Script> = vec![
            vec![],
            vec![value()],
            vec![honest(PART, b""), honest(PART, b"")],
            vec![honest(PART, b"\x04la")],
            vec![(frame(PART, 0, 5, b"\x04la"), 0)],
            vec![value(), (frame(PART, 0, 5, b""), 0)],
            vec![(frame(PART, 1, 5, b"\x04la"), 1)],
        ];
        for length in 1..8 {
            scripts.push(vec![cut(frame(PART, 0, 5, b""), length)]);
            scripts.push(vec![value(), cut(frame(END, 0, 0, b""), length)]);
        }
        attack.refuses(&scripts, |error| matches!(error, RecvError::Truncated));
    });
}

#[test]
fn a_frame_of_another_form_is_malformed() {
    scenario!(a_frame_of_another_form_is_malformed, {
        let attack = Attack::<ByteBuf>::new();
        let mut frames: Script = [4, 5, 128, 255].map(|kind| honest(kind, &[])).into();
        for place in [2, 3] {
            let mut padded = honest(END, &[]);
            padded.0[place] = 1;
            frames.push(padded);
        }
        frames.extend([END, ABORT, WITHDRAWN, 4].map(|kind| honest(kind, b"body")));
        // How many descriptors it says, and how many there are.
        for (said, come) in [(1, 0), (0, 1), (2, 1), (1, 2), (255, 0), (255, 1)] {
            frames.push((frame(PART, said, 5, b"\x04lane"), come));
            frames.push((frame(END, said, 0, b""), come));
        }
        // First of all, and after a frame that was right.
        let scripts: Vec<Script> = frames
            .into_iter()
            .flat_map(|bad| [vec![bad.clone()], vec![value(), bad.clone(), honest(END, &[])]])
            .collect();
        attack.refuses(&scripts, |error| matches!(error, RecvError::Malformed(_)));
    });
}

#[test]
fn frames_beyond_the_limit_are_too_large() {
    scenario!(frames_beyond_the_limit_are_too_large, {
        let attack = Attack::<ByteBuf>::new();
        set_message_limit(1 << 20);
        let limit = message_limit();
        let part = |length: u64| (frame(PART, 0, length as usize, b""), 0);
        for (before, announced) in [(0, limit + 1), (0, u32::MAX.into()), (5, limit - 4), (5, u32::MAX.into())] {
            let mut script = vec![part(announced)];
            if before > 0 {
                script.insert(0, value());
            }
            let total = before + announced;
            attack.refuses(
                &[script],
                |error| matches!(error, RecvError::TooLarge { length, limit: of } if (*length, *of) == (total, limit)),
            );
        }
    });
}

#[test]
fn a_message_that_is_taken_back_never_was() {
    scenario!(a_message_that_is_taken_back_never_was, {
        let attack = Attack::<ByteBuf>::new();
        for last in [ABORT, WITHDRAWN] {
            let scripts: [Script; 5] = [
                vec![honest(last, &[])],
                vec![honest(PART, b""), honest(last, &[])],
                vec![honest(PART, b"\x04la"), honest(last, &[])],
                vec![value(), honest(last, &[])],
                vec![honest(last, &[]), (vec![0xFF; 100], 2)],
            ];
            for script in &scripts {
                for (pace, way) in PACES.into_iter().flat_map(|pace| WAYS.map(|way| (pace, way))) {
                    let received = attack.offer_before(script, pace, way, b"\x04next");
                    assert_eq!(received.unwrap(), b"\x04next", "{script:?} {pace:?} {way:?}");
                    attack.goes_on();
                }
            }
        }
    });
}

#[test]
fn what_frames_announce_takes_no_memory() {
    scenario!(what_frames_announce_takes_no_memory, {
        let attack = Attack::<ByteBuf>::new();
        let before = status_kib("VmHWM");
        let most = message_limit().min(u32::MAX.into());
        // The value says as well that it is about as long as that.
        let value = [&[0xFF][..], &(most - 9).to_le_bytes(), b"a few bytes of it"].concat();
        let scripts = [vec![(frame(PART, 0, most as usize, &value), 0)], vec![(frame(PART, 0, most as usize, b""), 0)]];
        attack.refuses(&scripts, |error| matches!(error, RecvError::Truncated));
        let grown = status_kib("VmHWM") - before;
        assert!(grown < 16 << 10, "{grown} KiB");
    });
}

#[test]
fn lengths_and_descriptors_that_are_no_value_are_undecodable() {
    scenario!(lengths_and_descriptors_that_are_no_value_are_undecodable, {
        let attack = Attack::<ByteBuf>::new();
        let end = || honest(END, &[]);
        let scripts: [Script; 5] = [
            vec![end()],
            vec![honest(PART, b"\x04la"), end()],
            vec![value(), honest(PART, b"!"), end()],
            vec![honest(PART, &[0xFF; 9]), end()],
            vec![(frame(PART, 1, 5, b"\x04lane"), 1), end()],
        ];
        for (index, script) in scripts.iter().enumerate() {
            for (pace, way) in PACES.into_iter().flat_map(|pace| WAYS.map(|way| (pace, way))) {
                let result = attack.offer(script, pace, way);
                // As plain bytes everything means something, except descriptors.
                let refused = matches!(result, Err(RecvError::Decode(_)));
                assert_eq!(refused, way == Way::Value || index == 4, "{script:?} {pace:?} {way:?}: {result:?}");
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
