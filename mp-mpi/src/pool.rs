//! The pool of a cluster.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mp_pool::PoolBuilder;
use mp_pool::raw;

use crate::cluster::{Arrivals, Cluster, Node, nodes};
use crate::error::{FinishError, WorldError};
use crate::host::say;
use crate::launcher;
use crate::leader::{Leader, begin_world};

/// The variable that names the marker of a complete run: see [`Builder::marker`].
pub const MARKER: &str = "MP_MPI_COMPLETE";

/// Worker processes on all hosts of an MPI job.
///
/// It is an [`mp_pool::Pool`]: what that can do, this can do. See the [crate](crate) for how to
/// start a program, and for what happens when something dies.
///
/// Dropping it ends it at once, as for [`mp_pool::Pool`], then the agents, then MPI.
/// [`finish`](Self::finish) lets the tasks be done first and says whether the run is complete.
pub struct Pool {
    /// `None` when it has ended.
    pool: Option<mp_pool::Pool>,
    leader: Option<Leader>,
    nodes: Vec<Node>,
    marker: Option<PathBuf>,
}

/// Makes a [`Pool`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    pool: PoolBuilder,
    leader_works: bool,
    workers_per_rank: Option<usize>,
    marker: Option<PathBuf>,
}

impl Builder {
    /// Sets what holds for every pool, such as time limits, retries and an initializer.
    /// [`PoolBuilder::workers`] has no effect here: see
    /// [`workers_per_rank`](Self::workers_per_rank). The program and the standard streams of
    /// workers cannot be set.
    pub fn configure(mut self, configure: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        self.pool = configure(self.pool);
        self
    }

    /// Sets whether rank 0 has workers as well, beside `main`. By default it has.
    pub fn leader_works(mut self, works: bool) -> Self {
        self.leader_works = works;
        self
    }

    /// Sets how many workers each rank has. By default the ranks of a host share its processors, as
    /// far as the launcher lets them use these, and each has at least one worker.
    pub fn workers_per_rank(mut self, workers: usize) -> Self {
        self.workers_per_rank = Some(workers);
        self
    }

    /// Sets the file that exists after the run if the run was complete, in place of the one that
    /// the environment variable [`MP_MPI_COMPLETE`](MARKER) names. Building the pool removes it.
    ///
    /// The exit code of a launcher may be 0 even if a rank was lost. The marker is written last:
    /// every task was done, every agent that was not lost has acknowledged the end, and MPI was
    /// finalised. Its text says how many tasks and ranks there were, and how many ranks were lost.
    pub fn marker(mut self, path: impl Into<PathBuf>) -> Self {
        self.marker = Some(path.into());
        self
    }

    /// Starts MPI, waits for the agents of all ranks, and starts the workers.
    ///
    /// # Errors
    ///
    /// [`WorldError`]. The agents end then, and the process cannot try again.
    pub fn build(self) -> Result<Pool, WorldError> {
        let Self { pool: builder, leader_works, workers_per_rank, marker } = self;
        if launcher::rank().is_none() {
            return Err(WorldError::NotLaunched(launcher::command()));
        }
        if !begin_world() {
            return Err(WorldError::Again);
        }
        let leader = Leader::start()?;
        let marker = marker.or_else(|| std::env::var_os(MARKER).map(PathBuf::from));
        let started = marker.as_deref().map_or(Ok(()), remove).map_err(WorldError::Marker).and_then(|()| {
            let setup = raw::setup(&builder).map_err(WorldError::NotPortable)?;
            let nodes = nodes(&leader.own, &leader.hosts, workers_per_rank, leader_works);
            let cluster = Arc::new(Cluster::new(nodes.clone(), Arc::clone(&leader.outbox)));
            let builder =
                launcher::variables().into_iter().fold(builder.workers(cluster.workers()), PoolBuilder::env_remove);
            let (pool, scheduler) = raw::start(builder, Arc::clone(&cluster) as _).map_err(WorldError::Pool)?;
            leader.begin(setup, Arrivals::new(cluster, scheduler));
            Ok((pool, nodes))
        });
        match started {
            Ok((pool, nodes)) => Ok(Pool { pool: Some(pool), leader: Some(leader), nodes, marker }),
            Err(error) => {
                // This error is the one that matters.
                let _ = leader.end();
                Err(error)
            }
        }
    }
}

impl Pool {
    /// Makes a pool of all ranks of this MPI job, in place of `mp_pool::Pool::new(n)`.
    ///
    /// # Errors
    ///
    /// [`WorldError`]; outside of a launcher it has the command that starts the program under one.
    pub fn world() -> Result<Self, WorldError> {
        Self::builder().build()
    }

    /// Makes a builder, which can set more.
    pub fn builder() -> Builder {
        Builder { pool: mp_pool::Pool::builder(), leader_works: true, workers_per_rank: None, marker: None }
    }

    /// Returns the ranks of the job, with their hosts, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Lets all tasks be done, then ends the workers, the agents and MPI. Returns `Ok` if all of it
    /// happened.
    ///
    /// # Errors
    ///
    /// [`FinishError`]; there is no [marker](Builder::marker) then.
    pub fn finish(mut self) -> Result<(), FinishError> {
        if let Some(pool) = &self.pool {
            pool.join();
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), FinishError> {
        let Some(leader) = self.leader.take() else { return Ok(()) };
        let mut text = String::new();
        if let Some(pool) = self.pool.take() {
            let stats = pool.stats();
            if stats.queued == 0 && stats.sent == 0 {
                text = format!("complete: {} tasks on {} ranks", stats.done, self.nodes.len());
            }
            drop(pool);
        }
        let lost = leader.end().map_err(|error| FinishError::Mpi(error.to_string()))?;
        let of_them = if lost > 0 { format!(", {lost} of which were lost") } else { String::new() };
        match &self.marker {
            Some(marker) if !text.is_empty() => {
                write(marker, &format!("{text}{of_them}\n")).map_err(FinishError::Marker)
            }
            _ => Ok(()),
        }
    }
}

impl Deref for Pool {
    type Target = mp_pool::Pool;

    fn deref(&self) -> &mp_pool::Pool {
        match &self.pool {
            Some(pool) => pool,
            None => unreachable!("only a pool that is being dropped has ended"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            say(format_args!("the run is not known to be complete: {error}"));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

fn remove(marker: &Path) -> io::Result<()> {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the marker as a whole: it is there with its text, or not.
fn write(marker: &Path, text: &str) -> io::Result<()> {
    let mut name = marker.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = marker.with_file_name(name);
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, marker)
}
