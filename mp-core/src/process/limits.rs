//! What a process may use: resources, processors, its share of them.

use std::io;

use rustix::process::Pid;

use super::SpawnError;
use crate::sys::limits;

/// Something that the kernel limits for a process: see [`Builder::rlimit`](super::Builder::rlimit).
///
/// What each one means exactly is in [setrlimit(2)](https://man7.org/linux/man-pages/man2/setrlimit.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: the address space, in bytes. Beyond it allocations fail, which ends most Rust programs with SIGABRT.
    AddressSpace,
    /// `RLIMIT_CORE`: the size of a core dump, in bytes; 0 means none.
    CoreSize,
    /// `RLIMIT_CPU`: processor time, in seconds. At the soft limit comes SIGXCPU, at the hard one SIGKILL.
    CpuTime,
    /// `RLIMIT_DATA`: the heap, static data and private writable mappings, in bytes.
    DataSize,
    /// `RLIMIT_FSIZE`: the size of any file that is written, in bytes. Beyond it comes SIGXFSZ.
    FileSize,
    /// `RLIMIT_MEMLOCK`: memory that is locked into RAM, in bytes.
    LockedMemory,
    /// `RLIMIT_MSGQUEUE`: POSIX message queues, in bytes.
    MessageQueues,
    /// `RLIMIT_NICE`: 20 minus the lowest niceness that the process may give itself.
    Nice,
    /// `RLIMIT_NOFILE`: one more than the highest number of a descriptor.
    OpenFiles,
    /// `RLIMIT_NPROC`: the processes and threads of the user, this process's or not. It does not bind root.
    Processes,
    /// `RLIMIT_RTPRIO`: the highest real-time priority that the process may give itself.
    RealTimePriority,
    /// `RLIMIT_RTTIME`: processor time without a blocking call under a real-time policy, in microseconds.
    RealTimeTimeout,
    /// `RLIMIT_SIGPENDING`: queued signals of the user.
    PendingSignals,
    /// `RLIMIT_STACK`: the stack of the thread that runs the function, in bytes.
    StackSize,
}

impl Resource {
    /// What stands for "no limit".
    pub const UNLIMITED: u64 = u64::MAX;
}

/// What the parent sets for a child before it tells it what to run.
#[derive(Debug, Default)]
pub(super) struct Limits {
    resources: Vec<(Resource, u64, u64)>,
    processors: Option<Vec<usize>>,
    nice: i32,
}

impl Limits {
    pub(super) fn resource(&mut self, resource: Resource, soft: u64, hard: u64) {
        // Only the last one counts: an earlier, lower hard limit could not be raised again.
        self.resources.retain(|(earlier, ..)| *earlier != resource);
        self.resources.push((resource, soft, hard));
    }

    pub(super) fn processors(&mut self, processors: Vec<usize>) {
        self.processors = Some(processors);
    }

    pub(super) fn nice(&mut self, increment: i32) {
        self.nice = increment;
    }

    /// The limits of the stack, which the child has to set once more: the kernel puts the old ones back at the end of exec, which may
    /// be after the parent has set these. They are known to be allowed then.
    pub(super) fn stack(&self) -> Option<(u64, u64)> {
        let stack = self.resources.iter().find(|(resource, ..)| *resource == Resource::StackSize);
        stack.map(|&(_, soft, hard)| (soft, hard))
    }

    /// Applies everything to `child`, which must not have been reaped and waits for its start message.
    pub(super) fn apply(&self, child: Pid) -> Result<(), SpawnError> {
        if self.nice != 0 {
            check(limits::renice(child, self.nice), || format!("a niceness {:+} from that of its parent", self.nice))?;
        }
        if let Some(processors) = &self.processors {
            check(limits::set_affinity(child, processors), || format!("the processors {processors:?}"))?;
        }
        for &(resource, soft, hard) in &self.resources {
            let result = if soft > hard {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the soft limit is above the hard one"))
            } else {
                limits::set_resource(Some(child), resource, soft, hard)
            };
            check(result, || format!("a limit of {resource:?}, soft {}, hard {}", value(soft), value(hard)))?;
        }
        Ok(())
    }
}

/// A limit as text.
fn value(limit: u64) -> String {
    if limit == Resource::UNLIMITED { "unlimited".to_owned() } else { limit.to_string() }
}

fn check(result: io::Result<()>, setting: impl FnOnce() -> String) -> Result<(), SpawnError> {
    match result {
        // It is gone already, and cannot exceed any limit: joining says how it ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.map_err(|source| SpawnError::Setting { setting: setting(), source }),
    }
}
