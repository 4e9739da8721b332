//! Memory that was lost with another process, and processes that die with it at any instant.

use std::time::Duration;

use mp_core::{JoinError, Process, Receiver, Sender, pipe, process_fn};
use mp_shm::{Buffer, BufferError, Reclaimer};
use mp_testing::faults::{Killer, Random, busy, count, limit};
use mp_testing::{PATIENCE, scenario};

/// Says that it has the buffer, and keeps it until it is killed.
#[process_fn]
fn keep(mut buffer: Buffer<u8>, kept: Sender<()>) {
    buffer.fill(9);
    kept.send(()).unwrap();
    mp_testing::run_for_ever();
}

fn kept(buffer: Buffer<u8>) -> (Process<()>, Receiver<()>) {
    let (keeping, kept) = pipe().unwrap();
    let process = keep::spawn(buffer, keeping).unwrap();
    (process, kept)
}

scenario!(what_was_lost_with_a_killed_process_can_be_had_again, {
    let mut parts = Buffer::<u8>::zeroed(10_001).unwrap().split(3);
    let lost = parts.remove(1);
    let reclaimer = lost.reclaimer().unwrap();
    let reclaimer = in_use(reclaimer);
    let (process, kept) = kept(lost);
    kept.recv().unwrap();
    let reclaimer = in_use(reclaimer);
    process.kill().unwrap();
    assert!(process.join().is_err());
    let again = reclaimer.reclaim().unwrap();
    assert!(again.iter().all(|byte| *byte == 9), "it is as it was left");
    parts.push(again);
    let whole = Buffer::rejoin(parts).unwrap();
    assert_eq!((whole[0], whole[5_000], whole[10_000]), (0, 9, 0));
    assert_eq!(whole.freeze().unwrap().len(), 10_001);
});

fn in_use(reclaimer: Reclaimer<u8>) -> Reclaimer<u8> {
    let error = reclaimer.reclaim().unwrap_err();
    assert!(matches!(error.reason, BufferError::InUse), "{:?}", error.reason);
    error.reclaimer
}

scenario!(what_is_still_used_anywhere_is_not_reclaimed, {
    // In this process, as part of something larger, and as something smaller.
    let (part, rest) = Buffer::from_slice(&[1u8, 2, 3]).unwrap().split_at(2);
    let reclaimer = in_use(part.reclaimer().unwrap());
    let whole = part.unsplit(rest).unwrap();
    let reclaimer = in_use(reclaimer);
    let (one, others) = whole.split_at(1);
    drop(one);
    let reclaimer = in_use(reclaimer);
    drop(others);
    let again = reclaimer.reclaim().unwrap();
    assert_eq!(*again, [1, 2]);
    let other = in_use(again.reclaimer().unwrap());

    // Frozen: nobody writes it any more, whoever lets it go.
    drop(again);
    let whole = Buffer::from_slice(&[1u8, 2]).unwrap();
    let reclaimer = whole.reclaimer().unwrap();
    let frozen = whole.freeze().unwrap();
    drop(frozen);
    assert!(matches!(reclaimer.reclaim().unwrap_err().reason, BufferError::Io(_)));
    drop(other);
});

scenario!(reclaiming_waits_for_the_last_owner_and_no_longer_than_it_was_told, {
    let buffer = Buffer::<u8>::zeroed(10).unwrap();
    let reclaimer = buffer.reclaimer().unwrap();
    let (process, kept) = kept(buffer);
    kept.recv().unwrap();
    let reclaimer = reclaimer.reclaim_timeout(Duration::from_millis(30)).unwrap_err().reclaimer;
    process.kill().unwrap();
    assert_eq!(*reclaimer.reclaim_timeout(PATIENCE).unwrap(), [9; 10]);
    assert!(process.join().is_err());
});

/// Writes its own number everywhere, looks whether it stays there, and passes the buffer on.
#[process_fn]
fn take_turns(own: u64, turns: Receiver<Buffer<u64>>, next: Sender<Buffer<u64>>) {
    for buffer in turns.iter() {
        let mut buffer = buffer.unwrap();
        for _ in 0..2 {
            buffer.fill(own);
            busy(Duration::from_micros(5));
            assert!(buffer.iter().all(|value| *value == own), "somebody else has it");
        }
        if next.send(buffer).is_err() {
            return;
        }
    }
}

scenario!(a_buffer_has_one_owner_and_is_had_again_whoever_is_killed_when, limit(count(60)), {
    let mut random = Random::new();
    let killer = Killer::new();
    let mut buffer = Buffer::<u64>::zeroed(5_000).unwrap();
    for round in 0..count(60) {
        let reclaimer = buffer.reclaimer().unwrap();
        let (to_first, first) = pipe().unwrap();
        let (to_second, second) = pipe().unwrap();
        let (back, answers) = pipe().unwrap();
        let processes = [take_turns::spawn(1, first, to_second).unwrap(), take_turns::spawn(2, second, back).unwrap()];
        let victim = &processes[random.below(2) as usize];
        killer.kill(victim, random.moment(Duration::from_millis(3)));
        // The ends that went to them are theirs alone, so a death is the end of a connection.
        let mut turn = buffer;
        let survivor = loop {
            turn.fill(3);
            match to_first.send(turn) {
                Ok(()) => {}
                Err(error) => break Some(error.into_inner()),
            }
            match answers.recv() {
                Ok(next) => turn = next,
                Err(_) => break None,
            }
        };
        killer.finish();
        drop((to_first, answers));
        for process in processes {
            match process.join() {
                Ok(()) | Err(JoinError::Exited(_)) => {}
                Err(error) => panic!("in round {round}: {error}"),
            }
        }
        buffer = match survivor {
            Some(buffer) => buffer,
            None => reclaimer.reclaim().unwrap(),
        };
        let first = buffer[0];
        assert!((0..=3).contains(&first), "in round {round}");
    }
    killer.end();
});

/// Works on its part for as long as it is let.
#[process_fn]
fn work(mut part: Buffer<u32>, value: u32) -> Buffer<u32> {
    part.fill(value);
    part
}

scenario!(parts_of_killed_workers_are_had_again_and_the_buffer_is_whole, limit(4 * count(40)), {
    let mut random = Random::new();
    let mut buffer = Buffer::<u32>::zeroed(20_000).unwrap();
    for round in 0..count(40) as u32 {
        let parts = buffer.split(4);
        let workers: Vec<_> =
            parts.into_iter().map(|part| (part.reclaimer().unwrap(), work::spawn(part, round).unwrap())).collect();
        busy(random.moment(Duration::from_millis(3)));
        workers[random.below(4) as usize].1.kill().unwrap();
        let parts: Vec<_> = workers
            .into_iter()
            .map(|(reclaimer, process)| process.join().unwrap_or_else(|_| reclaimer.reclaim().unwrap()))
            .collect();
        buffer = Buffer::rejoin(parts).unwrap();
        assert_eq!(buffer.len(), 20_000);
    }
    assert_eq!(buffer.freeze().unwrap().len(), 20_000);
});
