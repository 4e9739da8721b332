//! What the launcher (`mpirun`, `srun`) says in the environment.

use std::env;
use std::ffi::OsString;

/// The variables that tell a process its rank: Open MPI's, PMIx's, MPICH's and Slurm's.
const RANKS: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];

/// What the names of a launcher's variables begin with.
const PREFIXES: [&str; 12] = [
    "OMPI_",
    "PMIX_",
    "PMI_",
    "PMI2_",
    "PRTE_",
    "ORTE_",
    "OPAL_",
    "HYDRA_",
    "HYDI_",
    "MPIR_",
    "MPI_LOCAL",
    "SLURM_PMIX",
];

/// The variables of Slurm that belong to one rank. The others describe the job.
const OF_SLURM: [&str; 7] =
    ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_STEP_ID", "SLURM_STEPID"];

/// The rank of this process, as far as the environment says; `None` if no launcher started it.
pub(crate) fn rank() -> Option<usize> {
    RANKS.iter().find_map(|name| env::var(name).ok()?.trim().parse().ok())
}

/// The variables of this process's environment that its workers must not have: with them, a program
/// that a task starts would take itself for a rank.
pub(crate) fn variables() -> Vec<OsString> {
    let is_one = |name: &OsString| {
        let name = name.to_string_lossy();
        OF_SLURM.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    env::vars_os().map(|(name, _)| name).filter(is_one).collect()
}

/// How to start a program under a launcher, for an error's text.
pub(crate) fn command() -> String {
    let program = env::args().next().unwrap_or_else(|| "./program".to_owned());
    format!(
        "start it with `mpirun -n NODES --map-by ppr:1:node --bind-to none {program}` (Open MPI), `mpiexec -n NODES -ppn 1 \
         {program}` (MPICH) or `srun --mpi=pmix --ntasks-per-node=1 {program}` (Slurm)"
    )
}
