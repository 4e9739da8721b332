//! The pool itself.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism};
use std::time::Duration;

use mp_core::raw::Within;
use mp_core::{Call, ProcessFn};

use crate::batch::Ends;
use crate::builder::PoolBuilder;
use crate::chunk::{Calls, Chunk, Sink, Terms};
use crate::error::{ARGUMENTS, PoolError, TaskError};
use crate::link::Hosts;
use crate::report::Report;
use crate::scheduler::Scheduler;
use crate::slot::Slot;
use crate::stats::Stats;
use crate::task::Task;

/// Worker processes that run tasks.
///
/// Tasks start in the order in which they were submitted, those of a higher
/// [priority](TaskOptions::priority) first. A pool can be used from several threads, from async
/// code, and inside the task of another pool.
///
/// Dropping a pool ends it at once: tasks that are not done get [`TaskError::PoolClosed`], and
/// their workers are killed; idle workers exit. No worker is left when `drop` returns.
/// [`close`](Self::close) and then [`join`](Self::join) let the tasks be done first.
///
/// # Process death
///
/// A worker that dies is replaced, and the task that it ran is [`TaskError::Crashed`]. When the
/// process that has the pool dies, the kernel kills the workers.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_pool::{Pool, TaskError};
///
/// #[process_fn]
/// fn check(number: u32) -> u32 {
///     if number == 13 {
///         std::process::abort();
///     }
///     number
/// }
///
/// let pool = Pool::new(2)?;
/// let lucky = pool.submit(check::call(7));
/// let unlucky = pool.submit(check::call(13));
/// assert!(matches!(unlucky.join(), Err(TaskError::Crashed { .. })));
/// assert_eq!(lucky.join()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A large value that all tasks read is sent to each worker as a descriptor, and copied nowhere, if
/// it stands in a `FrozenBuffer` or a `Shared` of mp-shm:
///
/// ```
/// use mp_core::process_fn;
/// use mp_pool::Pool;
/// use mp_shm::{Buffer, FrozenBuffer};
///
/// #[process_fn]
/// fn sum(numbers: FrozenBuffer<u64>, from: usize, to: usize) -> u64 {
///     numbers[from..to].iter().sum()
/// }
///
/// let numbers = Buffer::from_slice(&(0..1000).collect::<Vec<u64>>())?.freeze()?;
/// let pool = Pool::new(2)?;
/// let parts = (0..10).map(|part| (numbers.clone(), part * 100, part * 100 + 100));
/// assert_eq!(pool.map::<sum>(parts)?.iter().sum::<u64>(), 499_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    scheduler: Arc<Scheduler>,
    supervisor: Option<JoinHandle<()>>,
}

/// What holds for one task, other than for the rest of the pool's.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "options do nothing until a task is submitted with them"]
pub struct TaskOptions {
    timeout: Option<Duration>,
    priority: i32,
    retries: Option<u32>,
}

impl TaskOptions {
    /// Makes options with which nothing is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits how long the task may run, in place of
    /// [`PoolBuilder::task_timeout`](crate::PoolBuilder::task_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Has the task start before those that wait with a lower priority. The default is 0. Tasks
    /// that have started, or were sent ahead to a worker, are not held up.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how often the task is run again if its worker dies, in place of
    /// [`PoolBuilder::retries`](crate::PoolBuilder::retries).
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }
}

impl Pool {
    /// Starts a pool of `workers` processes.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; no worker is left then.
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().workers(workers).build()
    }

    /// Makes a builder, which can set more.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Returns how many workers the pool has, when none is just being replaced.
    pub fn workers(&self) -> usize {
        self.scheduler.workers()
    }

    /// Takes in a task.
    ///
    /// The arguments are encoded here; handles in them belong to the task from then on, and what
    /// the call borrows is free again. It never waits: tasks that find no idle worker queue up,
    /// without a limit; [`submit_when_below`](Self::submit_when_below) has one. Everything that can
    /// go wrong is told by [`Task::join`].
    pub fn submit<F: ProcessFn, A>(&self, call: Call<F, A>) -> Task<F::Output> {
        self.submit_with(TaskOptions::new(), call)
    }

    /// Takes in a task for which something else holds than for the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_core::process_fn;
    /// use mp_pool::{Pool, TaskError, TaskOptions};
    ///
    /// #[process_fn]
    /// fn sleep(duration: Duration) {
    ///     std::thread::sleep(duration);
    /// }
    ///
    /// let pool = Pool::new(1)?;
    /// let options = TaskOptions::new().timeout(Duration::from_millis(10)).priority(1);
    /// let task = pool.submit_with(options, sleep::call(Duration::from_secs(60)));
    /// assert!(matches!(task.join(), Err(TaskError::TimedOut { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_with<F: ProcessFn, A>(&self, options: TaskOptions, call: Call<F, A>) -> Task<F::Output> {
        let function = self.scheduler.function::<F>();
        let slot = Arc::new(Slot::new(function.next_index()));
        let mut calls = Calls::default();
        match calls.add(|bytes, most| call.encode_arguments(bytes, most, Some(self.scheduler.large()))) {
            Ok(()) => {
                let usual = self.scheduler.terms();
                let terms = Terms {
                    timeout: options.timeout.or(usual.timeout),
                    priority: options.priority,
                    retries: options.retries.unwrap_or(usual.retries),
                };
                let sink = Sink::Task(Arc::clone(&slot));
                self.scheduler.submit(Arc::new(Chunk::new(function, terms, sink, calls)));
            }
            Err(error) => {
                // No thread waits for it yet.
                let _ = slot
                    .finish(Ends::Failed(TaskError::Encode(error.within(&format!("`{}`", F::NAME)).within(ARGUMENTS))));
            }
        }
        Task::new(slot, Arc::clone(&self.scheduler))
    }

    /// Takes in a task as soon as fewer than `waiting` tasks are in the queue, and waits for that:
    /// back pressure for a producer that is faster than the workers.
    ///
    /// Tasks that workers run, or were sent ahead, are not in the queue. With 0 it does not wait.
    pub fn submit_when_below<F: ProcessFn, A>(&self, waiting: usize, call: Call<F, A>) -> Task<F::Output> {
        self.scheduler.wait_until_below(waiting);
        self.submit(call)
    }

    /// Takes in no more tasks: later ones get [`TaskError::PoolClosed`]. Those that were taken in
    /// are still done, then the workers end.
    pub fn close(&self) {
        self.scheduler.close();
    }

    /// Waits until every task is done and every worker has ended. It closes the pool first, if that
    /// was not done.
    pub fn join(&self) {
        self.close();
        self.scheduler.wait_until_gone();
    }

    /// Ends the pool at once: tasks that are not done get [`TaskError::PoolClosed`], and the
    /// workers that run them are killed.
    ///
    /// It does not wait for the workers' end; [`join`](Self::join) does.
    pub fn terminate(&self) {
        self.scheduler.terminate();
    }

    /// Changes how many workers there are, to at least one. It does not wait for that: missing ones
    /// are started, and those that are too many end when they have done what they are doing.
    /// [`stats`](Self::stats) tells how many there are.
    pub fn resize(&self, workers: usize) {
        self.scheduler.resize(workers.max(1));
    }

    /// Returns what the pool is doing and has done.
    pub fn stats(&self) -> Stats {
        self.scheduler.stats()
    }

    /// Returns what the pool has done so far, for people: which worker ran what and when, what was
    /// slow, and which workers ended and why.
    ///
    /// It can be asked for while the pool works and after [`join`](Self::join).
    pub fn report(&self) -> Report {
        self.scheduler.report()
    }

    pub(crate) fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.scheduler.is_copy() {
            // The workers are those of the process that this one was forked from, which has the
            // supervisor as well.
            std::mem::forget(self.supervisor.take());
            return;
        }
        self.terminate();
        if let Some(supervisor) = self.supervisor.take() {
            // It does not panic; if it did, the workers went with their links.
            let _ = supervisor.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl PoolBuilder {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; no worker is left then.
    pub fn build(self) -> Result<Pool, PoolError> {
        self.start(None)
    }

    pub(crate) fn start(self, hosts: Option<Arc<dyn Hosts>>) -> Result<Pool, PoolError> {
        if let Some(error) = self.failure {
            return Err(PoolError::Encode(error));
        }
        let workers = self.workers.unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get));
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        let (scheduler, supervisor) = Scheduler::start(self.settings, workers, hosts)?;
        Ok(Pool { scheduler, supervisor: Some(supervisor) })
    }
}
