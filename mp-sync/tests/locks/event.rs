//! `Event` between threads and between processes, and with processes that are killed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::InShared;
use mp_core::{Process, process_fn};
use mp_sync::Event;
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario, watched};

/// Two events and what is told by them.
#[repr(C)]
struct Exchange {
    question: Event,
    answer: Event,
    number: AtomicU32,
    inside: AtomicU32,
}

impl Exchange {
    const fn new() -> Self {
        let zero = AtomicU32::new;
        Self { question: Event::new(), answer: Event::new(), number: zero(0), inside: zero(0) }
    }
}

#[test]
fn it_works_in_a_static_between_threads() {
    static EVENTS: Exchange = Exchange::new();
    watched(|| {
        let answerer = thread::spawn(|| {
            for round in 0..200 {
                EVENTS.question.wait();
                EVENTS.question.clear();
                assert_eq!(EVENTS.number.swap(round + 1, Ordering::Relaxed), round);
                EVENTS.answer.set();
            }
        });
        for round in 0..200 {
            EVENTS.question.set();
            assert!(EVENTS.answer.wait_timeout(PATIENCE));
            EVENTS.answer.clear();
            assert_eq!(EVENTS.number.load(Ordering::Relaxed), round + 1);
        }
        answerer.join().unwrap();
    });
}

#[test]
fn a_timeout_is_as_long_as_it_says() {
    watched(|| {
        let event = Event::default();
        for millis in [0, 1, 30, 230] {
            let timeout = Duration::from_millis(millis);
            let start = Instant::now();
            assert!(!event.wait_timeout(timeout));
            assert!(start.elapsed() >= timeout, "{millis} ms");
        }
        assert_eq!(format!("{event:?}"), "Event { is_set: false }");
        event.set();
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            assert!(event.wait_timeout(timeout));
        }
        event.wait();
        event.set();
        event.clear();
        assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
    });
}

#[process_fn]
fn answer(exchange: InShared<Exchange>, rounds: u32) {
    for round in 0..rounds {
        exchange.question.wait();
        assert!(exchange.question.is_set());
        exchange.question.clear();
        assert_eq!(exchange.number.swap(round + 1, Ordering::Relaxed), round);
        exchange.answer.set();
    }
}

scenario!(two_processes_answer_each_other, {
    let exchange = InShared::new(Exchange::new());
    let child = answer::spawn(exchange.again(), 500).unwrap();
    for round in 0..500 {
        exchange.question.set();
        assert!(exchange.answer.wait_timeout(PATIENCE));
        exchange.answer.clear();
        assert_eq!(exchange.number.load(Ordering::Relaxed), round + 1);
    }
    child.join().unwrap();
});

/// Waits for the question, with a limit or without, and says before and after that it has come so
/// far.
#[process_fn]
fn wait_once(exchange: InShared<Exchange>, timeout: Option<Duration>) -> bool {
    exchange.inside.fetch_add(1, Ordering::Relaxed);
    let was_set = match timeout {
        Some(timeout) => exchange.question.wait_timeout(timeout),
        None => {
            exchange.question.wait();
            true
        }
    };
    exchange.inside.fetch_sub(1, Ordering::Relaxed);
    was_set
}

fn waiters(exchange: &InShared<Exchange>, timeouts: &[Option<Duration>]) -> Vec<Process<bool>> {
    let start = |timeout: &Option<Duration>| wait_once::spawn(exchange.again(), *timeout).unwrap();
    let waiters: Vec<_> = timeouts.iter().map(start).collect();
    eventually("all wait", || exchange.inside.load(Ordering::Relaxed) as usize == timeouts.len());
    eventually("all sleep", || waiters.iter().all(|waiter| sleeps_on_a_futex(waiter.pid())));
    waiters
}

scenario!(whoever_waits_goes_on_although_the_event_is_cleared_at_once, {
    let exchange = InShared::new(Exchange::new());
    for _ in 0..5 {
        let waiters = waiters(&exchange, &[None, Some(PATIENCE), Some(Duration::MAX)]);
        exchange.question.set();
        exchange.question.clear();
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
        assert!(!exchange.question.is_set());
    }
});

scenario!(a_timeout_in_another_process_is_late_and_loses_nobody_else, {
    let exchange = InShared::new(Exchange::new());
    let late = wait_once::spawn(exchange.again(), Some(Duration::from_millis(20))).unwrap();
    let zero = wait_once::spawn(exchange.again(), Some(Duration::ZERO)).unwrap();
    assert!(!late.join().unwrap() && !zero.join().unwrap());
    let [waiter] = waiters(&exchange, &[None]).try_into().unwrap();
    exchange.question.set();
    assert!(waiter.join().unwrap());
});

scenario!(a_waiter_that_is_killed_wedges_nobody, {
    let exchange = InShared::new(Exchange::new());
    let [victim, other] = waiters(&exchange, &[None, None]).try_into().unwrap();
    victim.kill().unwrap();
    victim.join().unwrap_err();
    exchange.question.set();
    assert!(other.join().unwrap());
    exchange.inside.store(0, Ordering::Relaxed);
    exchange.question.clear();
    let [after] = waiters(&exchange, &[None]).try_into().unwrap();
    exchange.question.set();
    assert!(after.join().unwrap());
});

/// Changes both events and waits for them, for ever.
#[process_fn]
fn disturb(exchange: InShared<Exchange>) {
    exchange.inside.store(1, Ordering::Relaxed);
    loop {
        exchange.answer.set();
        exchange.question.wait_timeout(Duration::from_micros(50));
        exchange.answer.wait();
        exchange.question.set();
        exchange.question.clear();
    }
}

#[process_fn]
fn wait_in_rounds(exchange: InShared<Exchange>) {
    for round in 0.. {
        // Killed in the middle of setting the last question, the disturber leaves this asleep for a
        // moment at most.
        assert!(exchange.question.wait_timeout(PATIENCE), "round {round}");
        if exchange.number.load(Ordering::Relaxed) == u32::MAX {
            break;
        }
    }
}

scenario!(processes_that_are_killed_at_any_instant_leave_an_event_that_works, limit(count(60)), {
    let mut random = Random::new();
    let exchange = InShared::new(Exchange::new());
    let survivor = wait_in_rounds::spawn(exchange.again()).unwrap();
    for round in 0..count(60) {
        exchange.inside.store(0, Ordering::Relaxed);
        let victim = disturb::spawn(exchange.again()).unwrap();
        eventually("it runs", || exchange.inside.load(Ordering::Relaxed) == 1);
        busy(random.moment(Duration::from_micros(300)));
        victim.kill().unwrap();
        victim.join().unwrap_err();
        // Whatever it left: set is set, cleared is cleared, and no wait sleeps over it.
        exchange.question.set();
        assert!(exchange.question.is_set() && exchange.question.wait_timeout(PROMPTLY), "round {round}");
        exchange.question.clear();
        assert!(!exchange.question.is_set() && !exchange.question.wait_timeout(Duration::ZERO), "round {round}");
    }
    exchange.number.store(u32::MAX, Ordering::Relaxed);
    exchange.question.set();
    survivor.join().unwrap();
});
