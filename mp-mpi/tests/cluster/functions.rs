//! What the tests run in workers.

use std::path::PathBuf;
use std::time::Duration;

use mp_core::process_fn;
use mp_shm::FrozenBuffer;

#[process_fn]
pub(crate) fn square(number: u64) -> u64 {
    number * number
}

#[process_fn]
pub(crate) fn sleep(time: Duration) -> u32 {
    std::thread::sleep(time);
    std::process::id()
}

#[process_fn]
pub(crate) fn crash_at(number: u64, bad: u64) -> u64 {
    if number == bad {
        std::process::abort();
    }
    number
}

#[process_fn]
pub(crate) fn panic_at(number: u64, bad: u64) -> u64 {
    assert!(number != bad, "not {number}");
    number
}

#[process_fn]
pub(crate) fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::thread::sleep(Duration::from_secs(60));
}

#[process_fn]
pub(crate) fn crash_once(file: PathBuf) -> String {
    if std::fs::File::create_new(file).is_ok() {
        std::process::abort();
    }
    "the second time".to_owned()
}

#[process_fn]
pub(crate) fn grow() {
    let mut memory = Vec::new();
    loop {
        memory.push(vec![1_u8; 4 << 20]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[process_fn]
pub(crate) fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[process_fn]
pub(crate) fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[process_fn(state = kept)]
pub(crate) fn fill(kept: &mut Option<u64>, number: u64) {
    *kept = Some(number);
}

#[process_fn(state = kept)]
pub(crate) fn first(kept: &mut Option<u64>) -> Option<u64> {
    *kept
}

#[process_fn]
pub(crate) fn fail_to_start() -> Result<(), String> {
    Err("no licence".to_owned())
}

#[process_fn]
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The process that has started this worker: rank 0, or an agent.
#[process_fn]
pub(crate) fn rank_process() -> i32 {
    // Long enough that every worker gets some.
    std::thread::sleep(Duration::from_millis(5));
    rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid)
}

#[process_fn]
pub(crate) fn variables() -> Vec<String> {
    std::env::vars().map(|(name, _)| name).collect()
}

#[process_fn]
pub(crate) fn give_handle() -> mp_core::Fd<std::fs::File> {
    mp_core::Fd(std::fs::File::open("/dev/null").expect("it is there"))
}

#[process_fn]
pub(crate) fn take_handle(file: mp_core::Fd<std::fs::File>) {
    drop(file);
}

#[process_fn]
pub(crate) fn sum(numbers: FrozenBuffer<u64>, from: usize, to: usize) -> u64 {
    numbers[from..to].iter().sum()
}

#[process_fn]
pub(crate) fn inode(numbers: FrozenBuffer<u64>) -> u64 {
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::MetadataExt;

    // Long enough that every worker gets some.
    std::thread::sleep(Duration::from_millis(2));
    std::fs::metadata(format!("/proc/self/fd/{}", numbers.as_fd().as_raw_fd())).expect("it is open").ino()
}

#[process_fn]
pub(crate) fn deadline_in() -> Option<Duration> {
    mp_pool::deadline().map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()))
}
