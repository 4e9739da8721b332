//! The pool of [`mp_pool`], with workers on all hosts of a cluster.
//!
//! A program that has outgrown one machine keeps its annotated functions and changes one line:
//! [`Pool::world`] in place of `Pool::new(n)`. An MPI launcher starts it, once on each host.
//!
//! ```no_run
//! // It needs a launcher.
//! use mp_core::process_fn;
//!
//! #[process_fn]
//! fn simulate(seed: u64) -> f64 {
//!     (seed as f64).sqrt()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = mp_mpi::Pool::world()?;
//!     for (index, value) in pool.imap_unordered::<simulate>(0..1_000_000) {
//!         println!("{index}: {}", value?);
//!     }
//!     pool.finish()?;
//!     Ok(())
//! }
//! ```
//!
//! ```text
//! mpirun -n 9 --map-by ppr:1:node --bind-to none ./program      Open MPI
//! mpiexec -n 9 -ppn 1 ./program                                 MPICH
//! srun --mpi=pmix --ntasks-per-node=1 ./program                 Slurm
//! ```
//!
//! # Overview
//!
//! Rank 0 runs `main`. Every other rank becomes an agent before `main`, and starts worker processes
//! on its host. A rank runs no function of the program, so whatever a task does to its process, MPI
//! does not notice. [`Pool`] is an [`mp_pool::Pool`]: maps, tasks, limits of time and memory,
//! cancelling, retries, statistics and the report are the same.
//!
//! All ranks must run the same build; that is checked. One thread of each rank calls MPI. It polls,
//! because MPI offers no other way, and sleeps longer the longer nothing happens.
//!
//! # What differs from a pool on one host
//!
//! - Arguments and results are copied to the other host. Handles (files, locks, queues, shared
//!   memory) belong to one host: a task that has one in its arguments fails with
//!   [`TaskError::NotSent`], wherever it runs, and one that returns one from another host with
//!   [`TaskError::Encode`].
//! - A `FrozenBuffer` of mp-shm in arguments is copied to a host once, however many tasks have it,
//!   and the workers there share that memory. A host keeps the 64 that were used last, if they
//!   take no more than a quarter of the memory of the smallest host.
//! - Workers inherit the environment and the working directory of the rank on their host, without
//!   the variables of the launcher, so that programs that they start are no ranks. Their standard
//!   streams and their program cannot be set.
//! - Tasks need no launcher variables and must not call MPI.
//! - MPI can be started once in a process, so there is one pool: [`WorldError::Again`].
//!
//! # Process death
//!
//! | process | what happens when it dies |
//! |---|---|
//! | a worker | the task that it runs fails with [`TaskError::Crashed`], or runs again if retries allow; the others go on; it is replaced |
//! | an agent, or its host | the launcher ends the job, and no process is left on any host; with ULFM the pool goes on without it |
//! | rank 0 | the launcher ends the job; no process is left on any host |
//! | the launcher | every rank ends within seconds, and the kernel ends its workers |
//!
//! With ULFM (Open MPI from 5 on, `mpirun --with-ft ulfm --mca async_mpi_finalize true`) a lost
//! rank costs the tasks that its workers were sent, which fail with [`TaskError::NodeLost`] or run
//! again if retries allow. The others run on the ranks that are left.
//!
//! If `main` returns without having made a pool, the agents end as well. If it exits without
//! dropping its pool, the launcher ends the job as if a rank had failed.
//!
//! A host that is cut off is noticed by its silence, after a minute: rank 0 ends the job, and the
//! agent on that host ends with its workers. The environment variable `MP_MPI_SILENCE` of rank 0
//! sets another number of seconds; 0 turns this off.
//!
//! The exit code of a launcher is not to be trusted: a job can lose a rank and return 0. A
//! [marker](Builder::marker) says that a run was complete.

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod agent;
mod cluster;
mod error;
mod host;
mod launcher;
mod leader;
mod letter;
mod link;
mod memory;
#[allow(unsafe_code, reason = "it calls the MPI library")]
mod mpi;
mod outbox;
mod pool;
mod port;
mod relay;
mod watch;

pub use cluster::Node;
pub use error::{FinishError, WorldError};
pub use mp_pool::{Stats, Task, TaskError, TaskOptions};
pub use pool::{Builder, MARKER, Pool};
