//! Processes as `/proc` shows them.

use std::fmt::Write;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub pid: u32,
    /// Its name, of at most 15 bytes.
    pub comm: String,
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// The number of its parent.
    pub parent: u32,
    /// The number of its session.
    pub session: u32,
}

impl Entry {
    /// Reads `/proc/<pid>/stat`; `None` if the process does not exist.
    pub fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name stands in parentheses and may hold some itself.
        let (comm, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self { pid, comm: comm.to_owned(), state, parent, session })
    }

    /// Returns whether it is a zombie.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Returns all processes.
pub fn processes() -> Vec<Entry> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Entry::read).collect()
}

/// Returns the children of a process, zombies included.
pub fn children(parent: u32) -> Vec<Entry> {
    processes().into_iter().filter(|process| process.parent == parent).collect()
}

/// Returns the processes of a session that have not ended.
pub fn session(session: u32) -> Vec<Entry> {
    processes().into_iter().filter(|process| process.session == session && !process.has_ended()).collect()
}

/// Returns whether a process runs: it exists and is no zombie.
pub fn runs(pid: u32) -> bool {
    Entry::read(pid).is_some_and(|process| !process.has_ended())
}

/// Kills every process of a session.
pub fn kill_session(number: u32) {
    for process in session(number) {
        let _ = kill_process(number_of(process.pid), Signal::KILL);
    }
}

/// Returns the number as the type that system calls take.
pub fn number_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Describes what processes are doing, for a person.
pub fn describe(processes: &[Entry]) -> String {
    let mut text = String::new();
    for process in processes {
        let pid = process.pid;
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let _ = writeln!(text, "{pid} (child of {}) {} {}: {command}", process.parent, process.state, process.comm);
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read = |what| fs::read_to_string(thread.path().join(what)).unwrap_or_default();
            let (waits, call) = (read("wchan"), read("syscall"));
            let _ =
                writeln!(text, "  thread {:?} {}: {waits} {}", thread.file_name(), read("comm").trim(), call.trim());
        }
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let _ = writeln!(text, "  descriptor {:?}: {}", fd.file_name(), target.display());
        }
    }
    text
}

/// Returns whether the first thread of the process sleeps on a futex.
pub fn sleeps_on_a_futex(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_futex.to_string())
}
