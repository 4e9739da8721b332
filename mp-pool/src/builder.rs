//! Making a pool, with everything that can be set for it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::Within;
use mp_core::{Builder, Call, EncodeError, ForkServer, ProcessFn, Resource, StartMethod, Stdio};

use crate::error::ARGUMENTS;
use crate::settings::{Initializer, MOST_TASKS, Settings};
use crate::wire::Shared;

/// Makes a [`Pool`](crate::Pool).
///
/// Workers inherit from this process what is not set, as with [`Builder`]. There is one exception:
/// workers ignore SIGINT, so that a program that handles Ctrl-C can finish its tasks or terminate
/// the pool. If the program does not handle SIGINT, it dies, and the kernel kills its workers.
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

/// The types that an initializer can return: `()`, or a `Result` whose error says what failed.
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

    /// Sets a call that each worker runs before its first task. The function returns `()` or
    /// `Result<(), String>`. It can fill a state that tasks use, as in the example.
    ///
    /// If the function panics, returns an error or ends the worker, the pool starts another worker.
    /// After three failures in a row the pool gives up: all its tasks, present and future, fail
    /// with [`TaskError::Initializer`](crate::TaskError::Initializer), which has the last message.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn(state = words)]
    /// fn load(words: &mut Vec<String>, text: &str) {
    ///     words.extend(text.split(' ').map(str::to_owned));
    /// }
    ///
    /// #[process_fn(state = words)]
    /// fn word(words: &mut Vec<String>, index: usize) -> Option<String> {
    ///     words.get(index).cloned()
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
                self.settings.initializer = Some(Initializer { call: Shared(Arc::new(call)), can_fail });
            }
            Err(error) => self.failure = Some(error.within(ARGUMENTS)),
        }
        self
    }

    /// Replaces each worker after it has run `tasks` tasks (at least one), which limits how much a
    /// leak can grow. The replacement starts while the old worker finishes its last task.
    pub fn max_tasks_per_worker(mut self, tasks: u32) -> Self {
        self.settings.max_tasks = tasks.clamp(1, MOST_TASKS);
        self
    }

    /// Limits how long a task can run. The pool kills the worker of a task that runs longer, and
    /// the task fails with [`TaskError::TimedOut`](crate::TaskError::TimedOut). Time in the queue
    /// does not count. A task can read its [`deadline`](crate::deadline()).
    ///
    /// The pool checks running tasks periodically, so a task can run up to an eighth and a few
    /// milliseconds longer than `timeout`. It is never killed early.
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.settings.terms.timeout = Some(timeout);
        self
    }

    /// Runs a task again if its worker dies or is lost with its host, up to `retries` times. The
    /// default is 0, because the task may have done half of its work.
    ///
    /// A task that panics, exceeds a limit, is cancelled, or has descriptors in its arguments does
    /// not run again. A `FrozenBuffer` and the other handles of mp-shm are descriptors: for tasks
    /// that shall run again, give them to the workers' [`initializer`](Self::initializer).
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.terms.retries = retries;
        self
    }

    /// Replaces a worker between two tasks if it uses more than `bytes` of resident memory.
    pub fn recycle_above(mut self, bytes: u64) -> Self {
        self.settings.recycle_above = Some(bytes);
        self
    }

    /// Kills a worker that uses more than `bytes` of resident memory while it runs a task. The task
    /// fails with [`TaskError::OutOfMemory`](crate::TaskError::OutOfMemory).
    ///
    /// The pool checks every 20 ms, so a task that allocates quickly can exceed the limit for a
    /// moment. An [`rlimit`](Self::rlimit) of the address space has no such gap, but it also counts
    /// memory that is reserved and never used.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = Some(bytes);
        self
    }

    /// Sets how many tasks the pool sends to a worker while it runs another, so that the worker
    /// need not wait for the pool. The default is 1. If tasks are short, the pool sends more. It
    /// takes them back when another worker is idle. With 0, a worker has one task at a time.
    pub fn prefetch(mut self, tasks: u32) -> Self {
        self.settings.prefetch = tasks;
        self
    }

    /// Ends workers that have been idle for `timeout`. The pool starts them again when it has
    /// tasks.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// Sets how the pool starts workers. By default it is what
    /// [`set_start_method`](mp_core::set_start_method) has set.
    pub fn start_method(self, method: StartMethod) -> Self {
        self.configure_workers(|worker| worker.start_method(method))
    }

    /// Lets the workers be processes of a fork server: each begins with what the server has loaded,
    /// and shares that memory with the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::OnceLock;
    ///
    /// use mp_core::{ForkServer, process_fn};
    /// use mp_pool::Pool;
    ///
    /// static SQUARES: OnceLock<Vec<u64>> = OnceLock::new();
    ///
    /// #[process_fn]
    /// fn load(count: u64) {
    ///     SQUARES.get_or_init(|| (0..count).map(|number| number * number).collect());
    /// }
    ///
    /// #[process_fn]
    /// fn square(number: usize) -> u64 {
    ///     SQUARES.get().unwrap()[number]
    /// }
    ///
    /// let server = ForkServer::builder().preload(load::call(1000)).build()?;
    /// let pool = Pool::builder().workers(2).fork_server(&server).build()?;
    /// assert_eq!(pool.map::<square>([3, 4])?, [9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fork_server(self, server: &ForkServer) -> Self {
        self.start_method(StartMethod::ForkServer(server.clone()))
    }

    /// Changes the [`Builder`] that all workers are started with: for what it can set and this one
    /// does not name, such as the user.
    ///
    /// The pool sets the name of each worker itself, and no worker outlives its pool.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_pool::Pool;
    ///
    /// #[process_fn]
    /// fn double(number: u32) -> u32 {
    ///     2 * number
    /// }
    ///
    /// let builder = Pool::builder().workers(1).configure_workers(|worker| worker.umask(0o077).no_new_privs(true));
    /// assert_eq!(builder.build()?.submit(double::call(4)).join()?, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn configure_workers(mut self, configure: impl FnOnce(Builder) -> Builder) -> Self {
        self.settings.configure(configure);
        self
    }

    /// Sets whether workers ignore SIGINT, which Ctrl-C at a terminal sends to all of them. By
    /// default they do, and so do the programs that tasks start, which inherit that.
    pub fn ignore_interrupts(mut self, ignore: bool) -> Self {
        self.settings.ignore_interrupts = ignore;
        self
    }

    /// Sets the program that the workers run, as
    /// [`Builder::program`](mp_core::Builder::program) does.
    pub fn program(self, program: impl Into<PathBuf>) -> Self {
        self.configure_workers(|worker| worker.program(program))
    }

    /// Sets a variable of the workers' environment.
    pub fn env(self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.configure_workers(|worker| worker.env(name, value))
    }

    /// Leaves a variable out of the workers' environment.
    pub fn env_remove(self, name: impl Into<OsString>) -> Self {
        self.configure_workers(|worker| worker.env_remove(name))
    }

    /// Starts from an empty environment.
    pub fn env_clear(self) -> Self {
        self.configure_workers(Builder::env_clear)
    }

    /// Sets the workers' working directory.
    pub fn current_dir(self, directory: impl Into<PathBuf>) -> Self {
        self.configure_workers(|worker| worker.current_dir(directory))
    }

    /// Sets the workers' standard input. It cannot be [`Stdio::piped`].
    pub fn stdin(self, stream: impl Into<Stdio>) -> Self {
        self.configure_workers(|worker| worker.stdin(stream))
    }

    /// Sets the workers' standard output. It cannot be [`Stdio::piped`].
    pub fn stdout(self, stream: impl Into<Stdio>) -> Self {
        self.configure_workers(|worker| worker.stdout(stream))
    }

    /// Sets the workers' standard error. It cannot be [`Stdio::piped`].
    pub fn stderr(self, stream: impl Into<Stdio>) -> Self {
        self.configure_workers(|worker| worker.stderr(stream))
    }

    /// Limits what each worker may use of a resource: see [`Builder::rlimit`].
    pub fn rlimit(self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.configure_workers(|worker| worker.rlimit(resource, soft, hard))
    }

    /// Sets the processors on which the workers may run, by their numbers from 0.
    pub fn cpu_affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.settings.one_core_each = false;
        self.settings.configure(|worker| worker.cpu_affinity(processors));
        self
    }

    /// Binds each worker to one of the processors that this process may use.
    pub fn one_core_each(mut self) -> Self {
        self.settings.one_core_each = true;
        self
    }

    /// Adds `increment` to the niceness of the workers: the higher, the less of a contended
    /// processor they get.
    pub fn nice(self, increment: i32) -> Self {
        self.configure_workers(|worker| worker.nice(increment))
    }
}
