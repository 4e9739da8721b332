//! Why there is no pool, and why a run is not complete.

use std::io;

use mp_pool::PoolError;

/// Why a pool of a cluster could not be made. The agents have ended, or are about to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// This process was not started by a launcher. The text has the command.
    #[error("this process was not started by an MPI launcher: {0}")]
    NotLaunched(String),
    /// This process has made a pool of the cluster before. MPI can be started once in a process.
    #[error("this process has made its pool of the cluster already, and MPI can be started once")]
    Again,
    /// The ranks do not run the same executable.
    #[error("rank {rank} on host '{host}' runs another build of this program: put the same executable on every host")]
    OtherBuild {
        /// The rank that differs from rank 0.
        rank: usize,
        /// Its host.
        host: String,
    },
    /// Something was set for the pool that belongs to one host.
    #[error("{0} was set for the pool, and cannot be used on another host")]
    NotPortable(&'static str),
    /// MPI could not be started. The text is the library's.
    #[error("MPI could not be started: {0}")]
    Mpi(String),
    /// The executable could not be read, to compare it with that of the other hosts.
    #[error("the executable could not be read: {0}")]
    Executable(io::Error),
    /// There was no thread for MPI.
    #[error("no thread could be started for MPI: {0}")]
    Thread(io::Error),
    /// The marker of an earlier run could not be removed.
    #[error("the marker of an earlier run could not be removed: {0}")]
    Marker(io::Error),
    /// The pool could not be started.
    #[error("{0}")]
    Pool(PoolError),
}

/// Why a run is not known to be complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// MPI failed at the end. The text is the library's.
    #[error("MPI could not be ended: {0}")]
    Mpi(String),
    /// The marker could not be written.
    #[error("the marker of a complete run could not be written: {0}")]
    Marker(io::Error),
}
