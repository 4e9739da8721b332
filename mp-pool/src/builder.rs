//! Making a pool, with everything that can be set for it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[expect(unused_imports, reason = "the documentation names them")]
use mp_core::Builder;
use mp_core::raw::Within;
use mp_core::{Call, EncodeError, ProcessFn, Resource, StartMethod, Stdio};

use crate::error::ARGUMENTS;
use crate::settings::{Affinity, Environment, Initializer, MOST_TASKS, Settings};

/// Makes a [`Pool`](crate::Pool).
///
/// What is not set is as in this process, as for [`Builder`], but for Ctrl-C: workers ignore
/// SIGINT, so that a program that handles it can finish or end its pool in its own way. A program
/// that does not handle it dies, and its workers with it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mp_core::process_fn;
/// use mp_pool::{Pool, TaskError};
///
/// #[process_fn]
/// fn spin() {
///     loop {
///         std::hint::spin_loop();
///     }
/// }
///
/// let pool = Pool::builder().workers(1).name("parser").task_timeout(Duration::from_millis(20)).build()?;
/// assert!(matches!(pool.submit(spin::call()).join(), Err(TaskError::TimedOut { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct PoolBuilder {
    pub(crate) workers: Option<usize>,
    pub(crate) settings: Settings,
    /// Why the initializer could not be encoded.
    pub(crate) failure: Option<EncodeError>,
}

/// What an initializer may return: nothing, or a `Result` whose error says why the worker is of no
/// use.
pub trait InitializerOutput: sealed::Sealed {
    #[doc(hidden)]
    const CAN_FAIL: bool;
}

impl InitializerOutput for () {
    const CAN_FAIL: bool = false;
}

impl InitializerOutput for Result<(), String> {
    const CAN_FAIL: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for Result<(), String> {}
}

impl PoolBuilder {
    pub(crate) fn new() -> Self {
        Self { workers: None, settings: Settings::default(), failure: None }
    }

    /// Sets how many workers there are. The default is
    /// [`available_parallelism`](std::thread::available_parallelism), which respects CPU affinity
    /// and cgroup quotas.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets what the workers are called: `name-1`, `name-2` and so on; a replacement gets the next
    /// number. The default is `Worker`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Has every worker run `call` before it takes tasks. The function returns `()`, or a
    /// `Result<(), String>`.
    ///
    /// If it panics, returns an error or ends the worker, another worker is started. After three
    /// such workers in a row the pool gives up: its tasks, and all that are submitted later, get
    /// [`TaskError::Initializer`](crate::TaskError::Initializer) with what the last one said.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::OnceLock;
    ///
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    ///
    /// #[process_fn]
    /// fn load(text: &str) -> Result<(), String> {
    ///     let words = text.split(' ').map(str::to_owned).collect();
    ///     WORDS.set(words).map_err(|_| "loaded twice".to_owned())
    /// }
    ///
    /// #[process_fn]
    /// fn word(index: usize) -> Option<String> {
    ///     WORDS.get()?.get(index).cloned()
    /// }
    ///
    /// let pool = Pool::builder().workers(2).initializer(load::call("to be or not")).build()?;
    /// assert_eq!(pool.submit(word::call(3)).join()?.as_deref(), Some("not"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn initializer<F, A>(mut self, call: Call<F, A>) -> Self
    where
        F: ProcessFn<Output: InitializerOutput>,
    {
        match call.encode() {
            Ok(call) => {
                let can_fail = F::Output::CAN_FAIL;
                self.settings.initializer = Some(Initializer { call: Arc::new(call), can_fail });
            }
            Err(error) => self.failure = Some(error.within(ARGUMENTS)),
        }
        self
    }

    /// Replaces each worker after it has run `tasks` tasks (at least one), which limits what a leak
    /// can grow to. The replacement starts while the old one is still busy.
    pub fn max_tasks_per_worker(mut self, tasks: u32) -> Self {
        self.settings.max_tasks = tasks.clamp(1, MOST_TASKS);
        self
    }

    /// Limits how long a task may run. One that runs longer is killed with its worker and gets
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). Time in the queue does not count. A
    /// task can ask for its [`deadline`](crate::deadline()).
    ///
    /// The pool looks at running tasks now and then, so a task may run for an eighth longer, and
    /// for a few milliseconds; it is never killed early.
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.settings.terms.timeout = Some(timeout);
        self
    }

    /// Runs a task whose worker died again, `retries` times at most. By default it is not run
    /// again, because it may have done half of its work.
    ///
    /// A panic, a task past its time or memory limit, and one that was cancelled, are not tried
    /// again, nor is a task with handles in its arguments.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.terms.retries = retries;
        self
    }

    /// Replaces a worker between two tasks if it has more than `bytes` of resident memory then.
    pub fn recycle_above(mut self, bytes: u64) -> Self {
        self.settings.recycle_above = Some(bytes);
        self
    }

    /// Kills a worker that has more than `bytes` of resident memory while it runs a task, which
    /// gets [`TaskError::OutOfMemory`](crate::TaskError::OutOfMemory).
    ///
    /// The pool looks every 20 ms. A task that allocates faster than that can go beyond the limit;
    /// [`rlimit`](Self::rlimit) of the address space has no such gap, but counts more than memory.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = Some(bytes);
        self
    }

    /// Sets how many tasks are sent to a worker ahead of the one that it runs, so that it need not
    /// wait for the pool between two. The default is 1. Of tasks that are known to be short, more
    /// are sent ahead in any case. Whatever is sent ahead is taken back if another worker is idle.
    /// With 0, nothing is sent ahead.
    pub fn prefetch(mut self, tasks: u32) -> Self {
        self.settings.prefetch = tasks;
        self
    }

    /// Ends workers that have had nothing to do for `timeout`. They are started again when there
    /// are tasks.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// Sets how workers come into being.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.settings.start_method = method;
        self
    }

    /// Sets whether workers ignore SIGINT, which Ctrl-C at a terminal sends to all of them. By
    /// default they do.
    pub fn ignore_interrupts(mut self, ignore: bool) -> Self {
        self.settings.ignore_interrupts = ignore;
        self
    }

    /// Sets a variable of the workers' environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.settings.environment.push(Environment::Set(name.into(), value.into()));
        self
    }

    /// Leaves a variable out of the workers' environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.settings.environment.push(Environment::Remove(name.into()));
        self
    }

    /// Starts from an empty environment.
    pub fn env_clear(mut self) -> Self {
        self.settings.environment.push(Environment::Clear);
        self
    }

    /// Sets the workers' working directory.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.directory = Some(directory.into());
        self
    }

    /// Sets the workers' standard input. It cannot be [`Stdio::piped`]: which worker would read it?
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.settings.streams[0] = stream.into();
        self
    }

    /// Sets the workers' standard output. It cannot be [`Stdio::piped`].
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.settings.streams[1] = stream.into();
        self
    }

    /// Sets the workers' standard error. It cannot be [`Stdio::piped`].
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.settings.streams[2] = stream.into();
        self
    }

    /// Limits what each worker may use of a resource: see [`Builder::rlimit`].
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.settings.limits.push((resource, soft, hard));
        self
    }

    /// Sets the processors on which the workers may run, by their numbers from 0.
    pub fn cpu_affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.settings.affinity = Affinity::All(processors.into_iter().collect());
        self
    }

    /// Gives each worker one processor of those that this process may use, in turn.
    pub fn one_core_each(mut self) -> Self {
        self.settings.affinity = Affinity::OneEach;
        self
    }

    /// Adds `increment` to the niceness of the workers: the higher, the less of a contended
    /// processor they get.
    pub fn nice(mut self, increment: i32) -> Self {
        self.settings.nice = increment;
        self
    }
}
