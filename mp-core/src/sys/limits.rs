//! Resource limits, affinity and niceness, above all of a child, set by its parent.
//!
//! All of that is set from outside, while the child waits for its start message: an error is known
//! to the parent at once, without asking the child, and the child runs no code of the user before.
//! The number of a child that was not reaped is its own, so no stranger can be hit.

use std::io;

use rustix::process::{Pid, Rlimit, getpriority_process, prlimit, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::resource::Resource;

/// Limits a resource of `process`, or of this one.
pub(crate) fn set_resource(process: Option<Pid>, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = |value| (value != Resource::UNLIMITED).then_some(value);
    prlimit(process, number(resource), Rlimit { current: limit(soft), maximum: limit(hard) })?;
    Ok(())
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
    for &processor in processors {
        if processor >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no processor {processor}")));
        }
        set.set(processor);
    }
    Ok(sched_setaffinity(Some(child), &set)?)
}

/// Counts the processors on which the calling thread may run. std's `available_parallelism` also
/// reads the files of the control groups, which takes as long as all of a child's boot.
pub(crate) fn processors_of_this_thread() -> u32 {
    // A machine with more processors than the set can hold has more than one.
    sched_getaffinity(None).map_or(u32::MAX, |set| set.count())
}

/// Adds `increment` to the child's niceness; the kernel keeps the sum within -20 and 19.
pub(crate) fn renice(child: Pid, increment: i32) -> io::Result<()> {
    let now = getpriority_process(Some(child))?;
    Ok(setpriority_process(Some(child), now.saturating_add(increment))?)
}
