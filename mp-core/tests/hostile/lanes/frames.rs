//! Frames, one by one and in a row.

use mp_core::{message_limit, set_message_limit};

use super::*;
use crate::support::limits::allow_descriptors;

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

/// How many handles a message can have.
const MOST_HANDLES: usize = 16 << 10;

/// A value that names no handles, and this many.
fn with_handles(count: usize) -> Script {
    let mut script = vec![value()];
    for first in (0..count).step_by(253) {
        let some = (count - first).min(253);
        script.push((frame(PART, some as u8, 0, b""), some));
    }
    script.push(honest(END, &[]));
    script
}

#[test]
fn more_handles_than_a_message_can_have_are_malformed() {
    if !allow_descriptors(MOST_HANDLES as u64 + 1000) {
        return;
    }
    scenario!(more_handles_than_a_message_can_have_are_malformed, {
        let attack = Attack::<ByteBuf>::new();
        attack.refuses(&[with_handles(MOST_HANDLES + 1)], |error| matches!(error, RecvError::Malformed(_)));
        // Each could be named by a value, but not by this one.
        attack.refuses(&[with_handles(MOST_HANDLES)], |error| matches!(error, RecvError::Decode(_)));
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
