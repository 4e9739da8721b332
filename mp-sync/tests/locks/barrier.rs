//! `Barrier` between threads and between processes, and with processes that are killed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::InShared;
use mp_core::{Process, process_fn};
use mp_sync::{Barrier, BarrierError};
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario, watched};

/// A barrier, and what is counted at it.
#[repr(C)]
struct Meeting {
    barrier: Barrier,
    /// How many have come, in all generations.
    came: AtomicU32,
    /// The numbers of this generation, added up.
    numbers: AtomicU32,
    /// How often the action has run.
    acted: AtomicU32,
    ready: AtomicU32,
}

impl Meeting {
    const fn new(parties: u32) -> Self {
        let zero = AtomicU32::new;
        Self { barrier: Barrier::new(parties), came: zero(0), numbers: zero(0), acted: zero(0), ready: zero(0) }
    }

    /// Meets that often, and sees all others come each time and each number once.
    fn meet(&self, rounds: u32) {
        let parties = self.barrier.parties();
        for round in 1..=rounds {
            self.came.fetch_add(1, Ordering::Relaxed);
            let number = self
                .barrier
                .wait_timeout_with(PATIENCE, || {
                    assert_eq!(self.came.load(Ordering::Relaxed), round * parties);
                    self.acted.fetch_add(1, Ordering::Relaxed);
                    self.numbers.store(0, Ordering::Relaxed);
                })
                .unwrap();
            assert!(number < parties);
            assert_eq!(self.acted.load(Ordering::Relaxed), round);
            assert_eq!(self.came.load(Ordering::Relaxed), round * parties);
            assert_eq!(self.numbers.fetch_or(1 << number, Ordering::Relaxed) & 1 << number, 0);
            self.barrier.wait().unwrap();
            assert_eq!(self.numbers.load(Ordering::Relaxed), (1 << parties) - 1);
        }
    }
}

#[test]
fn it_works_in_a_static_between_threads() {
    static MEETING: Meeting = Meeting::new(4);
    watched(|| {
        let parties: Vec<_> = (0..4).map(|_| thread::spawn(|| MEETING.meet(150))).collect();
        for party in parties {
            party.join().unwrap();
        }
        assert_eq!(format!("{:?}", MEETING.barrier), "Barrier { parties: 4, waiting: 0, is_broken: false }");
    });
}

#[test]
fn a_barrier_has_to_have_parties() {
    for (parties, message) in [(0, "at least one"), (1 << 20, "1048575"), (u32::MAX, "1048575")] {
        let panic = catch_unwind(|| Barrier::new(parties)).unwrap_err();
        assert!(panic.downcast_ref::<&str>().unwrap().contains(message));
    }
    assert_eq!(Barrier::new((1 << 20) - 1).parties(), (1 << 20) - 1);
    fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_error::<BarrierError>();
}

#[test]
fn whose_time_is_up_breaks_it_and_a_reset_mends_it() {
    watched(|| {
        let barrier = Barrier::new(2);
        for millis in [0, 1, 30, 230] {
            let timeout = Duration::from_millis(millis);
            let start = Instant::now();
            assert_eq!(barrier.wait_timeout(timeout), Err(BarrierError::TimedOut));
            assert!(start.elapsed() >= timeout);
            assert!(barrier.is_broken() && barrier.waiting() == 0);
            assert_eq!(barrier.wait_timeout(Duration::MAX), Err(BarrierError::Broken));
            barrier.reset();
            assert!(!barrier.is_broken());
        }
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait_timeout(Duration::MAX));
            eventually("it waits", || barrier.waiting() == 1);
            // The last is never late.
            assert_eq!(barrier.wait_timeout(Duration::ZERO), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(0));
        });
    });
}

#[test]
fn an_action_that_panics_breaks_it_for_the_others() {
    watched(|| {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            eventually("it waits", || barrier.waiting() == 1);
            let action = || resume_unwind(Box::new("no"));
            let panic = catch_unwind(AssertUnwindSafe(|| barrier.wait_with(action))).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"no"));
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
        assert!(barrier.is_broken());
        // Nobody runs the action of one that is not the last.
        assert_eq!(barrier.wait_with(|| unreachable!()), Err(BarrierError::Broken));
    });
}

#[test]
fn an_action_that_takes_too_long_is_not_waited_for() {
    watched(|| {
        for end in ["timeout", "abort", "reset"] {
            let barrier = Barrier::new(2);
            let (acting, done) = (AtomicU32::new(0), AtomicU32::new(0));
            let limit = if end == "timeout" { Duration::from_millis(100) } else { PATIENCE };
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let result = barrier.wait_timeout(limit);
                    done.store(1, Ordering::Relaxed);
                    result
                });
                eventually("it waits", || barrier.waiting() == 1 || barrier.is_broken());
                let runner = scope.spawn(|| {
                    barrier.wait_with(|| {
                        acting.store(1, Ordering::Relaxed);
                        eventually("the other has gone", || done.load(Ordering::Relaxed) == 1);
                    })
                });
                match end {
                    "timeout" => {}
                    _ => eventually("the action runs", || acting.load(Ordering::Relaxed) == 1),
                }
                match end {
                    "abort" => barrier.abort(),
                    "reset" => barrier.reset(),
                    _ => {}
                }
                let error = if end == "timeout" { BarrierError::TimedOut } else { BarrierError::Broken };
                assert_eq!(waiter.join().unwrap(), Err(error), "{end}");
                assert_eq!(runner.join().unwrap(), Err(BarrierError::Broken), "{end}");
            });
            assert_eq!(barrier.is_broken(), end != "reset");
        }
    });
}

#[test]
fn more_threads_than_parties_meet_in_groups() {
    watched(|| {
        let (barrier, zeros, acted) = (Barrier::new(2), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    // As long as not all 600 have met, there are others: who would be the 601st
                    // does not come.
                    while let Some(turn) = take_turn(&barrier, &acted) {
                        zeros.fetch_add(u32::from(turn == 0), Ordering::Relaxed);
                        assert!(turn < 2);
                    }
                });
            }
        });
        assert_eq!(zeros.into_inner(), acted.into_inner());
    });
}

/// Meets another one, until they have met 300 times; then whoever is left alone is sent away.
fn take_turn(barrier: &Barrier, acted: &AtomicU32) -> Option<u32> {
    let action = || {
        if acted.fetch_add(1, Ordering::Relaxed) >= 300 {
            acted.fetch_sub(1, Ordering::Relaxed);
            barrier.abort();
        }
    };
    barrier.wait_with(action).ok()
}

#[process_fn]
fn meet(meeting: InShared<Meeting>, rounds: u32) {
    meeting.meet(rounds);
}

scenario!(processes_meet_again_and_again, {
    let meeting = InShared::new(Meeting::new(3));
    let others = [(); 2].map(|()| meet::spawn(meeting.again(), 150).unwrap());
    meeting.meet(150);
    for other in others {
        other.join().unwrap();
    }
});

/// 0: went on; 1: its time was up; 2: broken.
#[process_fn]
fn wait_once(meeting: InShared<Meeting>, timeout: Option<Duration>) -> u32 {
    let result = match timeout {
        Some(timeout) => meeting.barrier.wait_timeout(timeout),
        None => meeting.barrier.wait(),
    };
    match result {
        Ok(_) => 0,
        Err(BarrierError::TimedOut) => 1,
        Err(_) => 2,
    }
}

fn waiters<const N: usize>(meeting: &InShared<Meeting>, timeouts: [Option<Duration>; N]) -> [Process<u32>; N] {
    let waiters = timeouts.map(|timeout| wait_once::spawn(meeting.again(), timeout).unwrap());
    eventually("all wait", || meeting.barrier.waiting() as usize == N);
    eventually("all sleep", || waiters.iter().all(|waiter| sleeps_on_a_futex(waiter.pid())));
    waiters
}

scenario!(breaking_and_resetting_reach_every_process_that_waits, {
    let meeting = InShared::new(Meeting::new(3));
    for end in [Barrier::abort, Barrier::reset] {
        let sleepers = waiters(&meeting, [None, Some(PATIENCE)]);
        end(&meeting.barrier);
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), 2);
        }
        meeting.barrier.reset();
        assert!(!meeting.barrier.is_broken() && meeting.barrier.waiting() == 0);
    }
    let [patient, late] =
        [None, Some(Duration::from_millis(300))].map(|timeout| wait_once::spawn(meeting.again(), timeout).unwrap());
    assert_eq!((patient.join().unwrap(), late.join().unwrap()), (2, 1));
    // All go on, although it is reset or aborted the moment after.
    for end in [Barrier::abort, Barrier::reset] {
        meeting.barrier.reset();
        let sleepers = waiters(&meeting, [None, None]);
        assert_eq!(meeting.barrier.wait(), Ok(2));
        end(&meeting.barrier);
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), 0);
        }
    }
});

scenario!(a_party_that_is_killed_while_it_waits_has_arrived_and_holds_no_later_generation_up, {
    let meeting = InShared::new(Meeting::new(3));
    let [victim, other] = waiters(&meeting, [None, None]);
    victim.kill().unwrap();
    victim.join().unwrap_err();
    assert_eq!(meeting.barrier.waiting(), 2);
    assert_eq!(meeting.barrier.wait_timeout(PROMPTLY), Ok(2));
    assert_eq!(other.join().unwrap(), 0);
    let next = waiters(&meeting, [None, None]);
    assert_eq!(meeting.barrier.wait_timeout(PROMPTLY), Ok(2));
    assert!(next.into_iter().all(|party| party.join().unwrap() == 0));
});

#[process_fn]
fn act_for_ever(meeting: InShared<Meeting>) {
    let _ = meeting.barrier.wait_with(|| {
        meeting.ready.store(1, Ordering::Relaxed);
        loop {
            thread::park();
        }
    });
}

scenario!(a_party_that_is_killed_in_its_action_is_overcome_by_timeout_abort_and_reset, {
    for end in ["timeout", "abort", "reset", "another"] {
        let meeting = InShared::new(Meeting::new(2));
        let limit = (end == "timeout").then_some(Duration::from_millis(400));
        let waiter = wait_once::spawn(meeting.again(), limit).unwrap();
        eventually("one waits", || meeting.barrier.waiting() == 1 || meeting.barrier.is_broken());
        let victim = act_for_ever::spawn(meeting.again()).unwrap();
        eventually("it acts", || meeting.ready.load(Ordering::Relaxed) == 1 || meeting.barrier.is_broken());
        victim.kill().unwrap();
        // On a busy machine it may have found the barrier broken, and ended.
        assert!(victim.join().is_err() || end == "timeout");
        match end {
            "abort" => meeting.barrier.abort(),
            "reset" => meeting.barrier.reset(),
            // It belongs to the next generation, but nobody can tell that the action does not run
            // any more.
            "another" => {
                assert_eq!(meeting.barrier.wait_timeout(Duration::from_millis(1)), Err(BarrierError::TimedOut))
            }
            _ => {}
        }
        assert_eq!(waiter.join().unwrap(), if end == "timeout" { 1 } else { 2 }, "{end}");
        meeting.barrier.reset();
        let [waiter] = waiters(&meeting, [None]);
        assert_eq!(meeting.barrier.wait_timeout(PROMPTLY), Ok(1));
        assert_eq!(waiter.join().unwrap(), 0);
    }
});

/// Waits, breaks and resets, for ever.
#[process_fn]
fn disturb(meeting: InShared<Meeting>) {
    meeting.ready.store(1, Ordering::Relaxed);
    for round in 0_u32.. {
        let _ = match round % 4 {
            0 => meeting.barrier.wait_timeout(Duration::from_micros(50)),
            1 => meeting.barrier.wait_timeout_with(Duration::from_micros(200), || busy(Duration::from_micros(5))),
            2 => meeting.barrier.wait_with(|| ()),
            _ => meeting.barrier.wait(),
        };
        match round % 3 {
            0 => meeting.barrier.abort(),
            1 => meeting.barrier.reset(),
            _ => {}
        }
        meeting.barrier.reset();
    }
}

#[process_fn]
fn go_on(meeting: InShared<Meeting>) {
    while meeting.came.load(Ordering::Relaxed) == 0 {
        // Whatever becomes of the others, it is not asleep over it.
        match meeting.barrier.wait_timeout_with(Duration::from_millis(500), || ()) {
            Ok(_) => {}
            Err(_) => meeting.barrier.reset(),
        }
    }
}

scenario!(processes_that_are_killed_at_any_instant_leave_a_barrier_that_a_reset_mends, limit(count(60)), {
    let mut random = Random::new();
    for round in 0..count(60) {
        let meeting = InShared::new(Meeting::new(2));
        let survivor = go_on::spawn(meeting.again()).unwrap();
        let victim = disturb::spawn(meeting.again()).unwrap();
        eventually("it runs", || meeting.ready.load(Ordering::Relaxed) == 1);
        busy(random.moment(Duration::from_micros(300)));
        victim.kill().unwrap();
        victim.join().unwrap_err();
        meeting.came.store(1, Ordering::Relaxed);
        meeting.barrier.abort();
        survivor.join().unwrap();
        // What the dead left does not count after a reset, and all meet again, with timeouts that
        // do not fire.
        meeting.barrier.reset();
        assert_eq!(meeting.barrier.waiting(), 0);
        let other = wait_once::spawn(meeting.again(), Some(PATIENCE)).unwrap();
        assert!(meeting.barrier.wait_timeout(PATIENCE).is_ok(), "round {round}");
        assert_eq!(other.join().unwrap(), 0, "round {round}");
    }
});
