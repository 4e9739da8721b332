//! What the kernel limits for a process.

/// Something that the kernel limits for a process: see [`Builder::rlimit`](crate::Builder::rlimit).
///
/// What each one means exactly is in
/// [setrlimit(2)](https://man7.org/linux/man-pages/man2/setrlimit.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: the address space, in bytes. Beyond it allocations fail, which ends most Rust
    /// programs with SIGABRT.
    AddressSpace,
    /// `RLIMIT_CORE`: the size of a core dump, in bytes; 0 means none.
    CoreSize,
    /// `RLIMIT_CPU`: processor time, in seconds. At the soft limit comes SIGXCPU, at the hard one
    /// SIGKILL.
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
    /// `RLIMIT_NPROC`: the processes and threads of the user, this process's or not. It does not
    /// bind root.
    Processes,
    /// `RLIMIT_RTPRIO`: the highest real-time priority that the process may give itself.
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
    /// What stands for "no limit".
    pub const UNLIMITED: u64 = u64::MAX;
}
