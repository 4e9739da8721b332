//! The tasks that are not done, and the workers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Destination, Job};
use crate::error::TaskError;
use crate::link::{Link, SendFailure};
use crate::protocol::{Request, SharedCall};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Tasks are taken in.
    Open,
    /// No more are; those that were go on.
    Closed,
    /// Everything ends.
    Terminated,
    /// There are no workers and no supervisor any more.
    Gone,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// Tasks that no worker has, in the order in which they came.
    pub(super) queue: VecDeque<Job>,
    pub(super) workers: Vec<Worker>,
    next_task: u64,
}

pub(super) struct Worker {
    pub(super) link: Arc<dyn Link>,
    /// What it is running, or is about to.
    pub(super) job: Option<Job>,
    /// It has said that it is.
    pub(super) ready: bool,
    /// It has answered a task.
    pub(super) proven: bool,
    /// It will get no task any more.
    pub(super) leaving: bool,
    /// It will say nothing any more.
    pub(super) silent: bool,
}

impl Worker {
    pub(super) fn new(link: Arc<dyn Link>) -> Self {
        Self { link, job: None, ready: false, proven: false, leaving: false, silent: false }
    }

    fn is_idle(&self) -> bool {
        self.ready && self.job.is_none() && !self.leaving
    }

    /// Hands a job to the worker; gives it back if the worker turns out to be lost. A job that
    /// cannot be sent to any worker is finished with that.
    fn assign(&mut self, mut job: Job) -> Result<(), Job> {
        let Some(call) = job.call.take() else { return Ok(()) };
        // A second copy of a handle would keep what it belongs to open, so only plain calls are
        // kept.
        job.kept = (!call.has_handles()).then(|| call.clone());
        match self.link.send(Request::Run { task: job.task, call }) {
            Ok(()) => {
                self.job = Some(job);
                Ok(())
            }
            Err(SendFailure::Lost(request)) => {
                self.leaving = true;
                self.link.kill();
                if let Request::Run { call, .. } = request {
                    job.call = Some(call);
                }
                Err(job)
            }
            Err(SendFailure::Refused(why)) => {
                job.destination.finish(Err(TaskError::NotSent(why)));
                Ok(())
            }
        }
    }

    /// Tells the worker to end when it has done what it has.
    pub(super) fn dismiss(&mut self) {
        if !self.leaving {
            self.leaving = true;
            // A worker that cannot be told is lost, and will be noticed.
            let _ = self.link.send(Request::Exit);
        }
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Open, queue: VecDeque::new(), workers: Vec::new(), next_task: 0 }
    }

    pub(super) fn submit(&mut self, call: SharedCall, destination: Destination) {
        let task = self.next_task;
        self.next_task += 1;
        self.queue.push_back(Job { task, call: Some(call), kept: None, destination });
        self.dispatch();
    }

    /// Hands waiting tasks to idle workers.
    pub(super) fn dispatch(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        for worker in &mut self.workers {
            while worker.is_idle() {
                let Some(job) = self.queue.pop_front() else { return };
                if let Err(job) = worker.assign(job) {
                    self.queue.push_front(job);
                }
            }
        }
    }

    /// Whether there is no task that is not done.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.workers.iter().all(|worker| worker.job.is_none())
    }
}
