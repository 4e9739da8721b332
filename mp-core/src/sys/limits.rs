//! Resource limits, processors and niceness. A parent sets those of its child.
//!
//! The parent sets them while the child waits for its start message. So the parent sees an error at
//! once, and the child has not run any code of the user. The child is not reaped yet, so its pid
//! cannot belong to another process.

use std::io;

use rustix::process::{Pid, Rlimit, getpriority_process, prlimit, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::resource::Resource;

/// Limits a resource of `process`, or of this process.
pub(crate) fn set_resource(process: Option<Pid>, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = |value| (value != Resource::UNLIMITED).then_some(value);
    prlimit(process, number(resource), Rlimit { current: limit(soft), maximum: limit(hard) })?;
    Ok(())
}

/// Returns the size beyond which writing to a file would raise SIGXFSZ, which ends the process.
/// `None` if there is no such size, or if the system refuses to say.
pub fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // rustix's `getrlimit` panics if a filter of system calls refuses the call. SAFETY: the place
    // is valid for the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn number(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::AddressSpace => Kernel::As,
        Resource::CoreSize => Kernel::Core,
        Resource::CpuTime => Kernel::Cpu,
        Resource::DataSize => Kernel::Data,
        Resource::FileSize => Kernel::Fsize,
        Resource::LockedMemory => Kernel::Memlock,
        Resource::MessageQueues => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::OpenFiles => Kernel::Nofile,
        Resource::Processes => Kernel::Nproc,
        Resource::RealTimePriority => Kernel::Rtprio,
        Resource::RealTimeTimeout => Kernel::Rttime,
        Resource::PendingSignals => Kernel::Sigpending,
        Resource::StackSize => Kernel::Stack,
    }
}

pub(crate) fn set_affinity(child: Pid, processors: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    if processors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there has to be at least one"));
    }
    for &processor in processors {
        if processor >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no processor {processor}")));
        }
        set.set(processor);
    }
    Ok(sched_setaffinity(Some(child), &set)?)
}

/// Counts the processors on which the calling thread may run. std's `available_parallelism` also
/// reads the files of control groups, which takes as long as the whole boot of a child.
pub(crate) fn processors_of_this_thread() -> u32 {
    // This fails on a machine with more processors than the set can hold, which has more than one.
    sched_getaffinity(None).map_or(u32::MAX, |set| set.count())
}

/// Adds `increment` to the child's niceness. The kernel clamps the sum to the range from -20 to 19.
pub(crate) fn renice(child: Pid, increment: i32) -> io::Result<()> {
    let now = getpriority_process(Some(child))?;
    Ok(setpriority_process(Some(child), now.saturating_add(increment))?)
}
