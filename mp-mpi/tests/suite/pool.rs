//! The pool of a scenario.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use mp_core::{Call, ProcessFn, Resource, Stdio};
use mp_mpi::WorldError;
use real_pool::{InitializerOutput, PoolBuilder, PoolError};

/// A pool of the ranks of this job, or one on this host in a task of such a pool.
pub(crate) enum Pool {
    World(mp_mpi::Pool),
    Host(real_pool::Pool),
}

/// Has what the scenarios set.
pub(crate) struct Builder {
    pool: PoolBuilder,
    workers: usize,
}

impl Pool {
    pub(crate) fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().workers(workers).build()
    }

    pub(crate) fn builder() -> Builder {
        Builder { pool: real_pool::Pool::builder(), workers: 1 }
    }
}

impl Deref for Pool {
    type Target = real_pool::Pool;

    fn deref(&self) -> &real_pool::Pool {
        match self {
            Self::World(pool) => pool,
            Self::Host(pool) => pool,
        }
    }
}

impl Builder {
    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Makes a pool whose workers are those of ranks 1 and 2, as far as their number is even.
    pub(crate) fn build(self) -> Result<Pool, PoolError> {
        let Self { pool, workers } = self;
        if mp_core::current().is_child() || workers == 0 {
            return pool.workers(workers).build().map(Pool::Host);
        }
        let (leader_works, ranks) = if workers == 3 { (true, 3) } else { (false, 2) };
        let builder = mp_mpi::Pool::builder().configure(|_| pool).leader_works(leader_works);
        let built = builder.workers_per_rank(workers.div_ceil(ranks)).build();
        let pool = match built {
            Ok(pool) => pool,
            Err(WorldError::Pool(error)) => return Err(error),
            Err(error) => panic!("{error}"),
        };
        if pool.workers() != workers {
            pool.resize(workers);
        }
        Ok(Pool::World(pool))
    }
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        impl Builder {
            $(
                pub(crate) fn $name(self, $($argument: $type),*) -> Self {
                    Self { pool: self.pool.$name($($argument),*), ..self }
                }
            )*
        }
    };
}

forward! {
    name(name: &str);
    task_timeout(timeout: Duration);
    retries(retries: u32);
    max_tasks_per_worker(tasks: u32);
    recycle_above(bytes: u64);
    memory_limit(bytes: u64);
    prefetch(tasks: u32);
    idle_timeout(timeout: Duration);
    ignore_interrupts(ignore: bool);
    program(program: impl Into<PathBuf>);
    env(name: impl Into<OsString>, value: impl Into<OsString>);
    env_remove(name: impl Into<OsString>);
    current_dir(directory: impl Into<PathBuf>);
    stdout(stream: impl Into<Stdio>);
    stderr(stream: impl Into<Stdio>);
    rlimit(resource: Resource, soft: u64, hard: u64);
    one_core_each();
    nice(increment: i32);
}

impl Builder {
    pub(crate) fn initializer<F, A>(self, call: Call<F, A>) -> Self
    where
        F: ProcessFn,
        F::Output: InitializerOutput,
        A: serde::Serialize,
    {
        Self { pool: self.pool.initializer(call), ..self }
    }
}
