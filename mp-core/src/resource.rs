//! What the kernel limits for a process.

use serde::{Deserialize, Serialize};

/// A resource that the kernel limits for a process: see
/// [`Builder::rlimit`](crate::Builder::rlimit).
///
/// [setrlimit(2)](https://man7.org/linux/man-pages/man2/setrlimit.2.html) defines each one exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: the address space, in bytes. At the limit allocations fail, which ends most
    /// Rust programs with SIGABRT.
    AddressSpace,
    /// `RLIMIT_CORE`: the size of a core dump, in bytes; 0 means none.
    CoreSize,
    /// `RLIMIT_CPU`: processor time, in seconds. The kernel sends SIGXCPU at the soft limit and
    /// SIGKILL at the hard limit.
    CpuTime,
    /// `RLIMIT_DATA`: the heap, static data and private writable mappings, in bytes.
    DataSize,
    /// `RLIMIT_FSIZE`: the size of a file that the process writes, in bytes. At the limit the
    /// kernel sends SIGXFSZ.
    FileSize,
    /// `RLIMIT_MEMLOCK`: memory locked in RAM, in bytes.
    LockedMemory,
    /// `RLIMIT_MSGQUEUE`: POSIX message queues, in bytes.
    MessageQueues,
    /// `RLIMIT_NICE`: 20 minus the lowest niceness that the process may set.
    Nice,
    /// `RLIMIT_NOFILE`: the highest descriptor number, plus one.
    OpenFiles,
    /// `RLIMIT_NPROC`: all processes and threads of the process's user. It does not limit root.
    Processes,
    /// `RLIMIT_RTPRIO`: the highest real-time priority that the process may set.
    RealTimePriority,
    /// `RLIMIT_RTTIME`: processor time without a blocking call under a real-time policy, in
    /// microseconds.
    RealTimeTimeout,
    /// `RLIMIT_SIGPENDING`: queued signals of the user.
    PendingSignals,
    /// `RLIMIT_STACK`: the stack of the thread that runs the function, in bytes.
    StackSize,
}

impl Resource {
    /// The value that means no limit.
    pub const UNLIMITED: u64 = u64::MAX;
}
