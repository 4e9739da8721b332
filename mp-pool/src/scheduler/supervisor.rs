//! The thread that listens to the workers.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::Receiver;

use super::state::{Phase, Worker};
use super::{MAX_FAILURES, SchedulerState, worker_name};
use crate::error::{TaskError, with_causes};
use crate::link::{Descriptors, FromWorker, Link, Start};
use crate::protocol::Reply;

/// How long a worker that was told to end may take for it.
const GRACE: Duration = Duration::from_secs(1);

/// The pause after the first failure to start a worker. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Supervisor {
    shared: Arc<SchedulerState>,
    woken: Receiver<()>,
    name: String,
    /// How many workers there should be.
    target: usize,
    start: Box<Start>,
    /// How many workers were ever started.
    started: usize,
    /// How many workers in a row did not become ready, and why the last one did not.
    failures: u32,
    failure: String,
    /// When to try again to start the workers that are missing.
    retry: Option<Instant>,
    /// When workers that were told to end are killed.
    deadline: Option<Instant>,
}

/// A worker that the supervisor sleeps beside.
struct WatchedWorker {
    link: Arc<dyn Link>,
    silent: bool,
}

/// What there is to look at about a worker.
#[derive(Clone, Copy, Default)]
struct Ready {
    said_something: bool,
    ended: bool,
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<SchedulerState>,
        woken: Receiver<()>,
        name: String,
        workers: usize,
        start: Box<Start>,
    ) -> Self {
        let failure = String::new();
        Self {
            shared,
            woken,
            name,
            target: workers,
            start,
            started: workers,
            failures: 0,
            failure,
            retry: None,
            deadline: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let watched = self.watched();
            let ready = self.sleep(&watched);
            while let Ok(Some(())) = self.woken.try_recv() {}
            for (watched, _) in watched.iter().zip(&ready).filter(|(_, ready)| ready.said_something) {
                self.listen(&watched.link);
            }
            for (watched, _) in watched.iter().zip(&ready).filter(|(_, ready)| ready.ended) {
                self.remove_dead(&watched.link);
            }
            if self.advance() {
                return;
            }
            self.replace_dead();
        }
    }

    fn watched(&self) -> Vec<WatchedWorker> {
        let state = self.shared.state();
        state
            .workers
            .iter()
            .map(|worker| WatchedWorker { link: Arc::clone(&worker.link), silent: worker.silent })
            .collect()
    }

    /// Sleeps until a worker says something or ends, or the state has changed, or it is time for
    /// something.
    fn sleep(&self, watched: &[WatchedWorker]) -> Vec<Ready> {
        let mut descriptors = Vec::with_capacity(2 * watched.len() + 1);
        for watched in watched {
            let Descriptors { says_something, has_ended } = watched.link.descriptors();
            // The end of what a worker says stays there to be read; only its own end is of interest
            // then.
            descriptors.push(if watched.silent { has_ended } else { says_something });
            descriptors.push(has_ended);
        }
        descriptors.push(self.woken.as_fd());
        let handles: Vec<&dyn AsFd> = descriptors.iter().map(|descriptor| descriptor as &dyn AsFd).collect();
        let due = [self.retry, self.deadline].into_iter().flatten().min();
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

    /// Takes in everything that a worker has said.
    fn listen(&mut self, link: &Arc<dyn Link>) {
        loop {
            match link.receive() {
                FromWorker::Nothing => return,
                FromWorker::Reply(Reply::Ready) => {
                    self.failures = 0;
                    self.with(link, |worker| worker.ready = true);
                    self.shared.state().dispatch();
                }
                FromWorker::Reply(Reply::Done { task, outcome }) => {
                    let done = self.with(link, |worker| {
                        worker.proven = true;
                        worker.job.take_if(|job| job.task == task)
                    });
                    match done.flatten() {
                        Some(job) => {
                            self.shared.state().dispatch();
                            job.destination.finish(Ok(outcome));
                        }
                        // An answer to what was never asked.
                        None => return link.kill(),
                    }
                }
                FromWorker::Reply(Reply::Unreadable(why)) => {
                    if !self.fail(link, TaskError::NotSent(why)) {
                        return link.kill();
                    }
                }
                FromWorker::Unreadable(why) => {
                    if !self.fail(link, TaskError::NotReceived(why)) {
                        return link.kill();
                    }
                }
                FromWorker::Lost => {
                    let dismissed = self.with(link, |worker| {
                        worker.silent = true;
                        std::mem::replace(&mut worker.leaving, true)
                    });
                    // One that was told to end closes its link on the way out, and may have other
                    // things to clear up. Any other is dying, or of no use any more.
                    if dismissed == Some(false) {
                        link.kill();
                    }
                    return;
                }
            }
        }
    }

    /// Fails the task that a worker has, and keeps the worker; false if it has none.
    fn fail(&self, link: &Arc<dyn Link>, error: TaskError) -> bool {
        let Some(job) = self.with(link, |worker| worker.job.take()).flatten() else { return false };
        self.shared.state().dispatch();
        job.destination.finish(Err(error));
        true
    }

    fn with<R>(&self, link: &Arc<dyn Link>, change: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        let mut state = self.shared.state();
        state.workers.iter_mut().find(|worker| Arc::ptr_eq(&worker.link, link)).map(change)
    }

    /// Takes a worker that has ended out of the pool.
    fn remove_dead(&mut self, link: &Arc<dyn Link>) {
        let Some(status) = link.exit_status() else { return };
        // Its last words may have come after the first look.
        self.listen(link);
        let mut state = self.shared.state();
        let Some(place) = state.workers.iter().position(|worker| Arc::ptr_eq(&worker.link, link)) else { return };
        let worker = state.workers.remove(place);
        let terminated = state.phase == Phase::Terminated;
        if !worker.proven && worker.job.is_none() && !terminated {
            drop(state);
            return self.failed(format!("a worker ended with {status} before it had done anything"));
        }
        let Some(mut job) = worker.job else { return };
        if terminated {
            drop(state);
            return job.destination.finish(Err(TaskError::PoolClosed));
        }
        if link.left_unread() {
            if let Some(call) = job.kept.take() {
                job.call = Some(call);
                state.queue.push_front(job);
                return state.dispatch();
            }
        }
        drop(state);
        job.destination.finish(Err(TaskError::Crashed { status, attempts: 1 }));
    }

    /// A worker did not come into being.
    fn failed(&mut self, why: String) {
        self.failure = why;
        // Workers that fail together fail once.
        if self.retry.is_some() {
            return;
        }
        self.failures += 1;
        let pause = FIRST_PAUSE * 2u32.pow(self.failures.min(7));
        self.retry = Some(Instant::now() + pause);
    }

    /// Does what the phase demands; true if the pool is gone.
    fn advance(&mut self) -> bool {
        let mut state = self.shared.state();
        match state.phase {
            Phase::Open => return false,
            Phase::Closed if !state.is_drained() => return false,
            Phase::Closed => {}
            Phase::Terminated | Phase::Gone => {
                for worker in &mut state.workers {
                    if worker.job.is_some() {
                        worker.link.kill();
                    }
                }
                let queue = std::mem::take(&mut state.queue);
                drop(state);
                for job in queue {
                    job.destination.finish(Err(TaskError::PoolClosed));
                }
                state = self.shared.state();
            }
        }
        for worker in &mut state.workers {
            worker.dismiss();
        }
        if state.workers.is_empty() {
            state.phase = Phase::Gone;
            drop(state);
            self.shared.changed.notify_all();
            return true;
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + GRACE);
        if Instant::now() >= deadline {
            state.workers.iter().for_each(|worker| worker.link.kill());
            self.deadline = Some(Instant::now() + GRACE);
        }
        false
    }

    /// Starts workers in place of those that are gone.
    fn replace_dead(&mut self) {
        if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        self.retry = None;
        for _ in 0..self.missing() {
            match (self.start)(worker_name(&self.name, self.started + 1)) {
                Ok(link) => {
                    self.started += 1;
                    self.shared.state().workers.push(Worker::new(Arc::from(link)));
                }
                Err(error) => {
                    self.failed(with_causes(&error));
                    break;
                }
            }
        }
        self.give_up();
    }

    /// How many workers there should be and are not.
    fn missing(&self) -> usize {
        let state = self.shared.state();
        let needed = match state.phase {
            Phase::Open => self.target,
            Phase::Closed if !state.is_drained() => self.target,
            _ => 0,
        };
        needed.saturating_sub(state.workers.len())
    }

    /// Fails the tasks that wait for a worker if there is none and none can be had.
    fn give_up(&mut self) {
        if self.failures < MAX_FAILURES {
            return;
        }
        let mut state = self.shared.state();
        if !state.workers.is_empty() {
            // One of them may become ready yet.
            return;
        }
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for job in queue {
            job.destination.finish(Err(TaskError::NoWorker(self.failure.clone())));
        }
    }
}
