//! The thread that sleeps beside the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::Receiver;
use mp_core::raw::error_chain;

use super::Scheduler;
use super::state::{Phase, State};
use crate::error::TaskError;
use crate::events::Event;
use crate::link::Start;

/// How many workers in a row may fail to become ready before waiting calls are given up.
pub(super) const MOST_FAILURES: u32 = 10;

/// The same where it is the initializer that fails.
pub(super) const MOST_INITIALIZER_FAILURES: u32 = 3;

/// The pause before the first try after a failure. It doubles with each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Supervisor {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) woken: Receiver<()>,
    pub(super) start: Start,
}

impl Supervisor {
    pub(super) fn run(self) {
        loop {
            let due = self.scheduler.with(|state| {
                state.supervisor_wakes = state.due(Instant::now());
                state.supervisor_wakes
            });
            let events = self.start.events.wait(due.map(|due| due.saturating_duration_since(Instant::now())));
            while let Ok(Some(())) = self.woken.try_recv() {}
            let is_gone = self.scheduler.with(|state| {
                state.supervisor_wakes = Some(Instant::now());
                turn(state, &events)
            });
            if is_gone {
                return self.scheduler.changed.notify_all();
            }
            self.replace();
        }
    }

    /// Starts workers in place of those that are gone.
    fn replace(&self) {
        loop {
            let next = self.scheduler.with(|state| {
                if state.retry.is_some_and(|retry| Instant::now() < retry) {
                    return None;
                }
                state.retry = None;
                state.give_up();
                (state.missing() > 0).then(|| state.next_worker())
            });
            let Some((number, place)) = next else { return };
            match self.start.start(number, place) {
                Ok(link) => self.scheduler.with(|state| {
                    // Its host may have been lost.
                    state.wants_supervisor |= link.has_news();
                    state.add(link, number, place);
                    // The pool may have been made smaller while the worker was started.
                    state.dismiss_surplus();
                }),
                Err(error) => self.scheduler.with(|state| {
                    state.stats.started -= 1;
                    state.failure = TaskError::NoWorker(error_chain(&error));
                    state.failed();
                    state.give_up();
                }),
            }
        }
    }
}

/// Looks at what has happened; true if the pool is gone.
fn turn(state: &mut State, events: &[Event]) -> bool {
    for event in events {
        let place = |number: usize| state.workers.iter().position(|worker| worker.number == number);
        match *event {
            Event::Woken => {}
            Event::Said(number) => {
                if let Some(index) = place(number) {
                    state.listen(index);
                }
            }
            Event::Ended(number) => {
                if let Some(index) = place(number).filter(|index| state.workers[*index].link.has_ended()) {
                    state.bury(index);
                }
            }
        }
    }
    state.listen_to_nodes();
    state.receive_all();
    state.check(Instant::now());
    state.dispatch();
    advance(state)
}

/// Does what the phase demands; true if the pool is gone.
fn advance(state: &mut State) -> bool {
    match state.phase {
        Phase::Open => return false,
        Phase::Closed if !state.is_drained() => return false,
        Phase::Closed => {}
        Phase::Terminated | Phase::Gone => {
            state.fail_queue(&TaskError::PoolClosed);
            for worker in state.workers.iter().filter(|worker| worker.unanswered() > 0) {
                worker.link.kill();
            }
        }
    }
    for index in 0..state.workers.len() {
        state.dismiss(index, "the pool was closed");
    }
    if state.workers.is_empty() {
        state.phase = Phase::Gone;
    }
    state.phase == Phase::Gone
}
