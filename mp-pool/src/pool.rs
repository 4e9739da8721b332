//! The pool itself.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism};

use mp_core::raw::Within;
use mp_core::{Call, ProcessFn};

use crate::error::{ARGUMENTS, PoolError, TaskError};
use crate::link::Local;
use crate::protocol::SharedCall;
use crate::scheduler::{self, Destination, SchedulerState};
use crate::task::{Task, TaskSlot};

/// Worker processes that run tasks.
///
/// Tasks start in the order in which they were submitted. A pool can be used from several threads,
/// and inside the task of another pool.
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
pub struct Pool {
    shared: Arc<SchedulerState>,
    workers: usize,
    supervisor: Option<JoinHandle<()>>,
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
        PoolBuilder { workers: None, name: "Worker".to_owned() }
    }

    /// Returns how many workers the pool has, when none is just being replaced.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Takes in a task.
    ///
    /// The arguments are encoded here; handles in them belong to the task from then on, and what
    /// the call borrows is free again. It never waits: tasks that find no idle worker queue up,
    /// without a limit. Everything that can go wrong is told by [`Task::join`].
    pub fn submit<F: ProcessFn, A>(&self, call: Call<F, A>) -> Task<F::Output> {
        let slot = Arc::new(TaskSlot::default());
        self.submit_to(call, Destination::Task(Arc::clone(&slot)));
        Task::new(slot)
    }

    pub(crate) fn submit_to<F: ProcessFn, A>(&self, call: Call<F, A>, destination: Destination) {
        match call.encode() {
            Ok(call) => self.shared.submit(SharedCall::new(call), destination),
            Err(error) => destination.finish(Err(TaskError::Encode(error.within(ARGUMENTS)))),
        }
    }

    /// Takes in no more tasks: later ones get [`TaskError::PoolClosed`]. Those that were taken in
    /// are still done, then the workers end.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Waits until every task is done and every worker has ended. It closes the pool first, if that
    /// was not done.
    pub fn join(&self) {
        self.close();
        self.shared.wait_until_gone();
    }

    /// Ends the pool at once: tasks that are not done get [`TaskError::PoolClosed`], and the
    /// workers that run them are killed.
    ///
    /// It does not wait for the workers' end; [`join`](Self::join) does.
    pub fn terminate(&self) {
        self.shared.terminate();
    }

    pub(crate) fn forget(&self, batch: &Arc<crate::batch::Batch>) {
        self.shared.forget(batch);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        if let Some(supervisor) = self.supervisor.take() {
            // It does not panic; if it did, the workers went with their links.
            let _ = supervisor.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Makes a [`Pool`].
///
/// # Examples
///
/// ```
/// use mp_pool::Pool;
///
/// let pool = Pool::builder().workers(3).name("parser").build()?;
/// assert_eq!(pool.workers(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct PoolBuilder {
    workers: Option<usize>,
    name: String,
}

impl PoolBuilder {
    /// Sets how many workers there are. The default is [`available_parallelism`], which respects
    /// CPU affinity and cgroup quotas.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets what the workers are called: `name-1`, `name-2` and so on; a replacement gets the next
    /// number. The default is `Worker`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; no worker is left then.
    pub fn build(self) -> Result<Pool, PoolError> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => available_parallelism().map_or(1, NonZero::get),
        };
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        let (shared, supervisor) = scheduler::start(&self.name, workers, Box::new(Local::start))?;
        Ok(Pool { shared, workers, supervisor: Some(supervisor) })
    }
}
