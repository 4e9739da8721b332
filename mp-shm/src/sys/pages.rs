//! How much memory there is, and having it come before it is touched.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{cmp, thread};

use memmap2::{MmapRaw, UncheckedAdvice};
use rustix::io::Errno;

/// The size of a page, in bytes.
pub(crate) fn size() -> usize {
    rustix::param::page_size()
}

/// How many bytes this process could get at the very most: what the machine has left, swap
/// included, or what its control groups allow, if that is less. `None` where the system does not
/// say.
pub(crate) fn most_available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| left_of_machine(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let groups = groups.and_then(|text| limit_of_groups(&text, |path| fs::read_to_string(path).ok()));
    match (machine, groups) {
        (Some(machine), Some(groups)) => Some(machine.min(groups)),
        (one, other) => one.or(other),
    }
}

fn left_of_machine(meminfo: &str) -> Option<u64> {
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(kilobytes("MemAvailable")?.saturating_add(kilobytes("SwapFree").unwrap_or(0)).saturating_mul(1024))
}

/// The least of the limits from the group of this process up to the root, of either version. `read`
/// gives the text of a file.
fn limit_of_groups(cgroup: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = cgroup.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        match controllers {
            "" => Some(("/sys/fs/cgroup", "memory.max", path)),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
            }
            _ => None,
        }
    });
    groups.filter_map(|(root, limit, path)| least_limit(Path::new(root), limit, path, &read)).min()
}

fn least_limit(root: &Path, limit: &str, path: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    // What is no number is no limit: `max`.
    let limit_of = |group: &Path| read(&root.join(group).join(limit))?.trim().parse::<u64>().ok();
    Path::new(path).ancestors().filter_map(limit_of).min()
}

/// Whether the system counts the memory of files as it is touched, so that there can be none left
/// then: strict overcommit.
///
/// It is asked once: the setting is one of machines, not of moments.
pub(crate) fn are_counted() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let ask = || fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2");
    *ANSWER.get_or_init(ask)
}

/// What one thread populates at a time.
const STEP: usize = 4 << 20;

/// From this many bytes on, several threads are worth starting.
const SEVERAL: usize = 64 << 20;

/// Has the pages made now that these bytes of the mapping are in, by as many threads as may run at
/// once.
///
/// # Errors
///
/// There is no memory for all of them; `Unsupported` before Linux 5.14.
pub(crate) fn populate(mapping: &MmapRaw, bytes: Range<usize>) -> io::Result<()> {
    let next = AtomicUsize::new(bytes.start);
    let work = || -> io::Result<()> {
        loop {
            let start = next.fetch_add(STEP, Ordering::Relaxed);
            if start >= bytes.end {
                return Ok(());
            }
            let count = cmp::min(STEP, bytes.end - start);
            mapping.advise_range(memmap2::Advice::PopulateWrite, start, count).map_err(|error| {
                // Nobody else is to go on.
                next.store(bytes.end, Ordering::Relaxed);
                match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::INVAL) => io::ErrorKind::Unsupported.into(),
                    // What would have been a SIGBUS or a kill.
                    Some(Errno::FAULT | Errno::HWPOISON | Errno::NOMEM) => io::ErrorKind::OutOfMemory.into(),
                    _ => error,
                }
            })?;
        }
    };
    if bytes.len() < SEVERAL {
        return work();
    }
    let most = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        // One that cannot be started is not needed.
        let others: Vec<_> = (1..most).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let own = work();
        others.into_iter().map(|other| other.join().unwrap_or(Ok(()))).fold(own, Result::and)
    })
}

/// How much is taken down at a time: some ten microseconds' work.
const PIECE: usize = 64 << 10;

/// How long a mapping that is taken down is let alone: what its thread was just doing comes first.
const A_MOMENT: Duration = Duration::from_millis(1);

/// Ends a mapping of a file in a moment, piece by piece. While it is ended in one go, which takes a
/// gigabyte some tenths of a second, no other thread of the process can map anything.
pub(crate) fn take_down(mapping: MmapRaw) {
    thread::sleep(A_MOMENT);
    for start in (0..mapping.len()).step_by(PIECE) {
        let length = cmp::min(PIECE, mapping.len() - start);
        // SAFETY: the mapping has been given away, so nobody reads or writes through it any more;
        // what was written to it is in the file.
        let result = unsafe { mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
        if result.is_err() {
            // Locked into memory by somebody, for instance: then it goes in one.
            break;
        }
    }
    drop(mapping);
}

/// Asks for huge pages, where the system gives them on request.
pub(crate) fn prefer_huge(mapping: &MmapRaw) {
    // A hint: nothing depends on it.
    let _ = mapping.advise(memmap2::Advice::HugePage);
}
