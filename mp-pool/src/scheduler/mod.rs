//! Who runs what.
//!
//! | part | who touches it |
//! |---|---|
//! | [`State`], under one lock | everyone: submitting threads put tasks in and hand them to idle workers; the supervisor takes results |
//! | the workers' links | sending: whoever holds the lock; receiving, killing and replacing: the supervisor |
//! | the supervisor, one thread | sleeps until a worker says something or ends, or until it is woken |
//!
//! 1. A task is in exactly one place: in the queue, with one worker, or finished. Its destination
//!    is told exactly once.
//! 2. A worker holds one task at a time and answers it before it gets another, so a worker that
//!    ends takes the task that it holds with it, and no other.
//! 3. A worker gets no task before it has said `Ready`. A worker that ends with its task unread has
//!    not begun it; the task goes back to the queue, unless it holds handles, of which no second
//!    copy is kept. (A worker that is killed in the instant in which the task arrives may take it
//!    in and not begin it. That counts as begun.)
//! 4. Results that a worker had sent before it ended are received before its end is looked at.
//! 5. The locks of destinations are leaves: whoever holds one takes no other.
//!
//! A worker that ends is replaced at once. If workers end before they are ready, or cannot be
//! started, again and again, the pauses between tries grow, and after [`MAX_FAILURES`] in a row the
//! waiting tasks fail instead of waiting for ever.

mod state;
mod supervisor;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mp_core::{SendErrorReason, Sender, pipe};

use crate::batch::Batch;
use crate::error::{PoolError, TaskError};
use crate::link::Start;
use crate::protocol::SharedCall;
use crate::task::{Finished, TaskSlot};
use state::{Phase, State, Worker};
use supervisor::Supervisor;

/// How many workers in a row may fail to become ready before waiting tasks are given up.
pub(crate) const MAX_FAILURES: u32 = 8;

/// Who wants to know how a task ended.
#[derive(Debug)]
pub(crate) enum Destination {
    Task(Arc<TaskSlot>),
    Batch(Arc<Batch>, usize),
}

impl Destination {
    pub(crate) fn finish(self, finished: Finished) {
        match self {
            Self::Task(slot) => slot.finish(finished),
            Self::Batch(batch, index) => batch.finish(index, finished),
        }
    }
}

/// A task that is not done.
#[derive(Debug)]
pub(crate) struct Job {
    task: u64,
    /// What to run; `None` while a worker has it.
    call: Option<SharedCall>,
    /// What a worker has, to be run again if the worker ends before it has looked at it.
    kept: Option<SharedCall>,
    destination: Destination,
}

/// The part of the scheduler that submitting threads and the supervisor share.
pub(crate) struct SchedulerState {
    state: Mutex<State>,
    /// Told when the last task is done after `close`, and when the last worker is gone.
    changed: Condvar,
    wake: Sender<()>,
}

impl SchedulerState {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code of the user's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets the supervisor to look at the state.
    fn wake(&self) {
        while let Err(error) = self.wake.try_send(()) {
            match error.reason {
                // If there is no room it has not seen the last ones yet, and will.
                SendErrorReason::Full | SendErrorReason::Disconnected => return,
                // The kernel has no memory for a packet of nothing.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Takes a task in, and hands it to a worker if one is idle.
    pub(crate) fn submit(&self, call: SharedCall, destination: Destination) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.submit(call, destination);
        } else {
            drop(state);
            destination.finish(Err(TaskError::PoolClosed));
        }
    }

    /// Takes the tasks of a batch that nobody waits for any more out of the queue.
    pub(crate) fn forget(&self, batch: &Arc<Batch>) {
        self.state()
            .queue
            .retain(|job| !matches!(&job.destination, Destination::Batch(of, _) if Arc::ptr_eq(of, batch)));
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Closed;
            drop(state);
            self.wake();
        }
    }

    pub(crate) fn terminate(&self) {
        let mut state = self.state();
        if state.phase != Phase::Gone {
            state.phase = Phase::Terminated;
            drop(state);
            self.wake();
        }
    }

    /// Waits until the supervisor has ended, and no worker is left.
    pub(crate) fn wait_until_gone(&self) {
        let mut state = self.state();
        while state.phase != Phase::Gone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Starts `workers` workers and the supervisor.
pub(crate) fn start(
    name: &str,
    workers: usize,
    start: Box<Start>,
) -> Result<(Arc<SchedulerState>, JoinHandle<()>), PoolError> {
    let (wake, woken) = pipe().map_err(PoolError::Io)?;
    let mut state = State::new();
    for number in 1..=workers {
        let link = start(worker_name(name, number)).map_err(PoolError::Spawn)?;
        state.workers.push(Worker::new(Arc::from(link)));
    }
    let shared = Arc::new(SchedulerState { state: Mutex::new(state), changed: Condvar::new(), wake });
    let supervisor = Supervisor::new(Arc::clone(&shared), woken, name.to_owned(), workers, start);
    let thread = std::thread::Builder::new()
        .name(format!("mp-pool {name}"))
        .spawn(move || supervisor.run())
        .map_err(|error: io::Error| PoolError::Io(error))?;
    Ok((shared, thread))
}

fn worker_name(pool: &str, number: usize) -> String {
    format!("{pool}-{number}")
}
