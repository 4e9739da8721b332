//! What a pool is doing and has done.

/// Numbers about a pool at one moment: what [`Pool::stats`](crate::Pool::stats) returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Workers that there are, those that are about to begin or end included.
    pub workers: usize,
    /// Workers that have nothing to do.
    pub idle: usize,
    /// Tasks that wait in the queue.
    pub queued: usize,
    /// Tasks that workers run or were sent ahead.
    pub sent: usize,
    /// Tasks that have ended in their worker, with a value or an error.
    pub done: u64,
    /// Workers that were started, replacements included.
    pub started: u64,
    /// Workers that ended while they ran a task, by themselves.
    pub crashed: u64,
    /// Workers that were lost with their host, in a pool over several hosts.
    pub lost: u64,
    /// Tasks that were killed at their time limit.
    pub timed_out: u64,
    /// Tasks that were killed at the memory limit.
    pub out_of_memory: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Workers that were killed because they broke the protocol.
    pub misbehaved: u64,
    /// Workers that were replaced by choice: after so many tasks, or for the memory they had.
    pub recycled: u64,
}
