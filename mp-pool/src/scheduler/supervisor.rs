//! The thread that sleeps beside the workers.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::Receiver;
use mp_core::raw::error_chain;

use super::Scheduler;
use super::state::{Phase, State, Worker};
use crate::error::TaskError;
use crate::link::{Ends, Start};

/// How many workers in a row may fail to become ready before waiting calls are given up.
pub(super) const MOST_FAILURES: u32 = 10;

/// The same where it is the initializer that fails.
pub(super) const MOST_INITIALIZER_FAILURES: u32 = 3;

/// The pause before the first try after a failure. It doubles with each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Supervisor {
    scheduler: Arc<Scheduler>,
    woken: Receiver<()>,
    start: Start,
}

/// A worker whose descriptors the supervisor waits for.
struct Watched {
    number: usize,
    ends: Arc<Ends>,
    silent: bool,
}

/// What has happened at a worker's descriptors.
#[derive(Clone, Copy, Default)]
struct Ready {
    said_something: bool,
    ended: bool,
}

impl Supervisor {
    pub(super) fn new(scheduler: Arc<Scheduler>, woken: Receiver<()>, start: Start) -> Self {
        Self { scheduler, woken, start }
    }

    pub(super) fn run(self) {
        let (mut watched, mut generation) = (Vec::new(), u64::MAX);
        loop {
            let due = self.scheduler.with(|state| {
                if generation != state.generation {
                    generation = state.generation;
                    watched = watch(state);
                }
                state.supervisor_wakes = state.due(Instant::now());
                state.supervisor_wakes
            });
            let ready = self.sleep(&watched, due);
            while let Ok(Some(())) = self.woken.try_recv() {}
            let looked: Vec<(usize, Ready)> = watched.iter().map(|watched| watched.number).zip(ready).collect();
            if looked.iter().any(|(_, ready)| ready.ended) {
                // The link of a dead worker is dropped as a whole, so no share of it may be left.
                (watched, generation) = (Vec::new(), u64::MAX);
            }
            let is_gone = self.scheduler.with(|state| {
                state.supervisor_wakes = Some(Instant::now());
                turn(state, &looked)
            });
            if is_gone {
                return self.scheduler.changed.notify_all();
            }
            self.replace();
        }
    }

    /// Sleeps until a worker says something or ends, or the state has changed, or it is time for
    /// something.
    fn sleep(&self, watched: &[Watched], due: Option<Instant>) -> Vec<Ready> {
        let mut descriptors = Vec::with_capacity(2 * watched.len() + 1);
        for watched in watched {
            // The end of what a worker says stays there to be read; only its own end is of interest
            // then.
            let has_ended = watched.ends.has_ended();
            descriptors.push(if watched.silent { has_ended } else { watched.ends.says_something() });
            descriptors.push(has_ended);
        }
        descriptors.push(self.woken.as_fd());
        let handles: Vec<&dyn AsFd> = descriptors.iter().map(|descriptor| descriptor as &dyn AsFd).collect();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let Ok(indices) = mp_core::wait(&handles, timeout) else {
            // There is no memory for the kernel's table. Looking at everything needs none; try
            // again soon.
            std::thread::sleep(FIRST_PAUSE);
            return vec![Ready { said_something: true, ended: true }; watched.len()];
        };
        let mut ready = vec![Ready::default(); watched.len()];
        for index in indices {
            if let Some(ready) = ready.get_mut(index / 2) {
                *(if index % 2 == 0 { &mut ready.said_something } else { &mut ready.ended }) = true;
            }
        }
        ready
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

fn watch(state: &State) -> Vec<Watched> {
    let workers = state.workers.iter();
    let watched =
        |worker: &Worker| Some(Watched { number: worker.number, ends: worker.link.ends()?, silent: worker.silent });
    workers.filter_map(watched).collect()
}

/// Looks at what has happened; true if the pool is gone.
fn turn(state: &mut State, looked: &[(usize, Ready)]) -> bool {
    for (number, ready) in looked {
        let place = |state: &State| state.workers.iter().position(|worker| worker.number == *number);
        if ready.said_something {
            if let Some(index) = place(state) {
                state.listen(index);
            }
        }
        if ready.ended {
            if let Some(index) = place(state).filter(|index| state.workers[*index].link.has_ended()) {
                state.bury(index);
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
