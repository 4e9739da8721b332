//! How much memory is available, and allocating it before the first access.

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

/// Returns the size of a page in bytes.
pub(crate) fn size() -> usize {
    rustix::param::page_size()
}

/// Returns an upper bound for the memory that this process could get, in bytes: what the machine
/// has left, with swap, or what its control groups allow, if that is less. `None` if the system
/// does not say.
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

/// Returns the lowest limit from the group of this process up to the root, for both versions of
/// control groups. `read` returns the text of a file.
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
    // `max` means no limit.
    let limit_of = |group: &Path| read(&root.join(group).join(limit))?.trim().parse::<u64>().ok();
    Path::new(path).ancestors().filter_map(limit_of).min()
}

/// Tells whether the system does not overcommit. Then it counts the memory of files at the first
/// access, when there may be none left.
///
/// It is read once, because the setting hardly ever changes.
pub(crate) fn never_overcommits() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let ask = || fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2");
    *ANSWER.get_or_init(ask)
}

/// How much one thread populates at a time.
const STEP: usize = 4 << 20;

/// From this many bytes on, it pays to start several threads.
const SEVERAL: usize = 64 << 20;

/// Allocates the pages of these bytes of the mapping, on as many threads as can run at once.
///
/// # Errors
///
/// Fails if there is no memory for all of them. `Unsupported` before Linux 5.14.
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
                // The other threads should stop.
                next.store(bytes.end, Ordering::Relaxed);
                match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::INVAL) => io::ErrorKind::Unsupported.into(),
                    // An access would have raised SIGBUS or started the OOM killer.
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
        // The others do the work of a thread that cannot be started.
        let others: Vec<_> = (1..most).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let own = work();
        others.into_iter().map(|other| other.join().unwrap_or(Ok(()))).fold(own, Result::and)
    })
}

/// How much is unmapped at a time, which takes some ten microseconds.
const PIECE: usize = 64 << 10;

/// How long unmapping is delayed, so that it does not compete with what the program does next.
const DELAY: Duration = Duration::from_millis(1);

/// Unmaps a mapping of a file after a delay, piece by piece. Unmapping a gigabyte in one call takes
/// some tenths of a second, in which no other thread of the process can map anything.
pub(crate) fn unmap_gently(mapping: MmapRaw) {
    thread::sleep(DELAY);
    for start in (0..mapping.len()).step_by(PIECE) {
        let length = cmp::min(PIECE, mapping.len() - start);
        // SAFETY: this owns the mapping, so no code accesses memory through it any more. What was
        // written to it is in the file.
        let result = unsafe { mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
        if result.is_err() {
            // For example because the memory is locked: then dropping the mapping unmaps it in one
            // call.
            break;
        }
    }
    drop(mapping);
}

/// Asks for huge pages, if the system provides them on request.
pub(crate) fn prefer_huge(mapping: &MmapRaw) {
    // It is only advice: nothing depends on it.
    let _ = mapping.advise(memmap2::Advice::HugePage);
}
