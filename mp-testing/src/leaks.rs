//! What a scenario must not leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::procfs::{self, Entry};
use crate::{holds_within, nothing, start_method};

/// Runs `body` and fails if anything is left of what it did. Only for a process that does nothing
/// else.
pub fn check(body: impl FnOnce()) {
    // What a scenario starts, and what that starts, is found by its session.
    rustix::process::setsid().unwrap();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // A shell that runs the tests in the background has them ignore some of these, and so would
        // all that they start. SAFETY: the default is a valid disposition, and there is no handler
        // that would be lost.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    start_method::choose();
    // What the first spawn makes for the whole life of the process is no leak.
    nothing::spawn().unwrap().join().unwrap();
    start_threads_of_sanitizer();
    let before = Resources::of_this_process();
    body();
    let mut after = Resources::of_this_process();
    let settled = holds_within(Duration::from_secs(5), || {
        after = Resources::of_this_process();
        // Processes whose handle was dropped are reaped by the next spawn.
        after == before || {
            nothing::spawn().unwrap().join().unwrap();
            false
        }
    });
    assert!(settled, "something is left behind\nbefore: {before:#?}\nafter: {after:#?}");
}

/// ThreadSanitizer starts a thread of its own beside the first that a process starts. It stays.
fn start_threads_of_sanitizer() {
    if std::env::var_os("TSAN_OPTIONS").is_some() {
        std::thread::spawn(|| {}).join().unwrap();
        // The kernel lists a thread for a moment after it was joined.
        assert!(holds_within(crate::PATIENCE, || numbers::<u32>("/proc/self/task").len() == 2));
    }
}

/// Returns what is left of a session a second after its leader has ended.
pub fn left_of_session(session: u32) -> Vec<Entry> {
    let mut left = Vec::new();
    holds_within(crate::PROMPTLY, || {
        left = procfs::session(session);
        left.is_empty()
    });
    left
}

/// What a process has.
#[derive(Debug, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors, and what each stands for.
    pub descriptors: BTreeMap<i32, String>,
    /// The numbers of its children, zombies included, and of the processes of its fork server.
    pub children: BTreeSet<u32>,
    /// The numbers of its threads.
    pub threads: BTreeSet<u32>,
    /// Mappings of memory files.
    pub mappings: Vec<String>,
    /// Names in `/dev/shm` that can be ours: other programs have theirs there as well.
    pub shared_memory: Vec<String>,
    /// The same in the directory for temporary files.
    pub temporary_files: Vec<String>,
}

impl Resources {
    /// Returns what this process has now.
    pub fn of_this_process() -> Self {
        Self {
            descriptors: descriptors(),
            children: start_method::children().into_iter().map(|child| child.pid).collect(),
            threads: numbers("/proc/self/task"),
            mappings: mappings(),
            shared_memory: shared_memory(),
            temporary_files: temporary_files(),
        }
    }
}

/// Returns the open descriptors of this process, and what each stands for.
pub fn descriptors() -> BTreeMap<i32, String> {
    let own = format!("/proc/{}/fd", std::process::id());
    numbers::<i32>("/proc/self/fd")
        .into_iter()
        .filter_map(|fd| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            Some((fd, target.to_string_lossy().into_owned()))
        })
        .filter(|(_, target)| *target != own)
        .collect()
}

fn mappings() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:") || line.contains("/dev/shm")).map(str::to_owned).collect()
}

fn shared_memory() -> Vec<String> {
    let own = std::process::id().to_string();
    // Those that mp-shm makes up begin with the number of their process; the other digits are of
    // chance.
    let made_up = format!("{:08x}", std::process::id());
    names("/dev/shm".as_ref(), |name| match name.strip_prefix("mp-shm.").or(name.strip_prefix("mp_")) {
        Some(digits) => digits.starts_with(&made_up),
        None => name.starts_with("mp-core") || name.contains(&own),
    })
}

fn temporary_files() -> Vec<String> {
    names(&std::env::temp_dir(), |name| name.starts_with("mp-core"))
}

fn names(directory: &Path, ours: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| ours(name)).collect()
}

fn numbers<N: std::str::FromStr + Ord>(directory: &str) -> BTreeSet<N> {
    let entries = fs::read_dir(directory).unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the value of a line of `/proc/self/status`, in KiB.
pub fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Measures how long `body` takes.
pub fn timed<R>(body: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = body();
    (result, start.elapsed())
}
