//! Random programs: a buffer is split, sent to several processes, joined, lost with those that are
//! killed and reclaimed, in any order, and every value is what its last owner wrote.

use mp_core::{Process, Receiver, Sender, pipe, process_fn};
use mp_shm::{Buffer, BufferError, Reclaimer, RejoinErrorReason};
use mp_testing::faults::{Random, count, limit};
use mp_testing::{PATIENCE, scenario};

/// Overwrites what it gets, which has to be `before` everywhere that `before` is known, and sends
/// it back.
#[process_fn]
fn overwrite(work: Receiver<(Buffer<u32>, Option<u32>, u32)>, done: Sender<Buffer<u32>>) {
    for item in work.iter() {
        let (mut part, before, value) = item.unwrap();
        if let Some(before) = before {
            assert!(part.iter().all(|value| *value == before), "it is as its last owner left it");
        }
        part.fill(value);
        if done.send(part).is_err() {
            return;
        }
    }
}

struct Worker {
    process: Process<()>,
    work: Sender<(Buffer<u32>, Option<u32>, u32)>,
    done: Receiver<Buffer<u32>>,
    /// What it has, in the order in which it got it.
    has: Vec<(Reclaimer<u32>, u32)>,
}

impl Worker {
    fn new() -> Self {
        let (work, worked) = pipe().unwrap();
        let (doing, done) = pipe().unwrap();
        Self { process: overwrite::spawn(worked, doing).unwrap(), work, done, has: Vec::new() }
    }
}

/// A part that is here. Its values are all the same; `None` if nobody knows which, since its last
/// owner was killed.
struct Part {
    buffer: Buffer<u32>,
    value: Option<u32>,
}

const LENGTH: usize = 6_000;

/// One program, and whether all its values were right.
fn play(random: &mut Random, steps: u32) {
    let mut workers: Vec<_> = (0..3).map(|_| Worker::new()).collect();
    let mut parts = vec![Part { buffer: Buffer::zeroed(LENGTH).unwrap(), value: Some(0) }];
    for step in 1..=steps {
        let chosen = random.below(parts.len().max(1) as u64) as usize;
        let worker = random.below(workers.len() as u64) as usize;
        match random.below(12) {
            // Split it.
            0..=3 if chosen < parts.len() => {
                let Part { buffer, value } = parts.swap_remove(chosen);
                let middle = random.below(buffer.len() as u64 + 1) as usize;
                let (start, end) = buffer.split_at(middle);
                parts.extend([start, end].map(|buffer| Part { buffer, value }));
            }
            // Send it away.
            4..=6 if chosen < parts.len() && workers[worker].has.len() < 8 => {
                let Part { buffer, value } = parts.swap_remove(chosen);
                let reclaimer = buffer.reclaimer().unwrap();
                workers[worker].work.send((buffer, value, step)).unwrap();
                workers[worker].has.push((reclaimer, step));
            }
            // Get one back.
            7..=8 if !workers[worker].has.is_empty() => {
                let buffer = workers[worker].done.recv().unwrap();
                let (_, value) = workers[worker].has.remove(0);
                parts.push(Part { buffer, value: Some(value) });
            }
            // Join two, if they lie side by side.
            9..=10 if parts.len() > 1 => {
                let one = parts.swap_remove(chosen);
                let other = parts.swap_remove(random.below(parts.len() as u64) as usize);
                let ranges = [one.buffer.range(), other.buffer.range()];
                let adjacent = ranges[0].end == ranges[1].start
                    || ranges[1].end == ranges[0].start
                    || ranges.iter().any(|range| range.is_empty());
                match one.buffer.unsplit(other.buffer) {
                    Ok(mut buffer) => {
                        assert!(adjacent);
                        assert_eq!(buffer.len(), ranges[0].len() + ranges[1].len());
                        buffer.fill(step);
                        parts.push(Part { buffer, value: Some(step) });
                    }
                    Err(error) => {
                        assert!(!adjacent, "{ranges:?}: {error:?}");
                        let reason = error.reason;
                        assert!(
                            matches!(reason, RejoinErrorReason::Missing { .. } | RejoinErrorReason::Foreign),
                            "{reason:?}"
                        );
                        for buffer in error.parts {
                            let value = if buffer.range() == ranges[0] { one.value } else { other.value };
                            parts.push(Part { buffer, value });
                        }
                    }
                }
            }
            // Kill one, and have again what it had.
            11 if random.below(4) == 0 => {
                let Worker { process, work, done, has } = std::mem::replace(&mut workers[worker], Worker::new());
                process.kill().unwrap();
                assert!(process.join().is_err());
                drop(work);
                // What it had sent back before is there.
                let mut has = has.into_iter();
                while let Ok(buffer) = done.recv() {
                    let (_, value) = has.next().unwrap();
                    parts.push(Part { buffer, value: Some(value) });
                }
                for (reclaimer, _) in has {
                    let buffer = reclaimer.reclaim_timeout(PATIENCE).unwrap();
                    parts.push(Part { buffer, value: None });
                }
            }
            _ => {}
        }
        for Part { buffer, value } in &mut parts {
            if let Some(value) = value {
                assert!(buffer.iter().all(|found| found == value), "step {step}");
            } else {
                buffer.fill(step);
                *value = Some(step);
            }
        }
    }
    for Worker { process, work, done, has } in workers {
        drop(work);
        for (reclaimer, value) in has {
            let buffer = done.recv().unwrap();
            assert!(buffer.iter().all(|found| *found == value));
            // Of nothing there is enough for all.
            assert!(buffer.is_empty() || matches!(reclaimer.reclaim().unwrap_err().reason, BufferError::InUse));
            parts.push(Part { buffer, value: Some(value) });
        }
        process.join().unwrap();
    }
    let mut expected = vec![u32::MAX; LENGTH];
    for part in &parts {
        expected[part.buffer.range()].fill(part.value.unwrap());
    }
    let whole = Buffer::rejoin(parts.into_iter().map(|part| part.buffer)).unwrap();
    assert_eq!(*whole, expected);
    assert_eq!(*whole.freeze().unwrap(), expected);
}

scenario!(every_value_is_what_its_last_owner_wrote, limit(count(30)), {
    let mut random = Random::new();
    for _ in 0..count(30) {
        play(&mut random, 60);
    }
});
