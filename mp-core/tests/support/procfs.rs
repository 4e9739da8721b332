//! Processes, as `/proc` shows them.

use std::fmt::Write;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    pub(crate) comm: String,
    /// `R`, `S`, `Z`, …
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) session: u32,
}

impl Entry {
    /// Reads `/proc/<pid>/stat`; `None` if there is no such process any more.
    pub(crate) fn read(pid: u32) -> Option<Self> {
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

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// All processes.
pub(crate) fn processes() -> Vec<Entry> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Entry::read).collect()
}

/// The children of a process, zombies included.
pub(crate) fn children(parent: u32) -> Vec<Entry> {
    processes().into_iter().filter(|process| process.parent == parent).collect()
}

/// The processes of a session that have not ended.
pub(crate) fn session(session: u32) -> Vec<Entry> {
    processes().into_iter().filter(|process| process.session == session && !process.has_ended()).collect()
}

/// Tells whether a process runs: it exists and is no zombie.
pub(crate) fn runs(pid: u32) -> bool {
    Entry::read(pid).is_some_and(|process| !process.has_ended())
}

pub(crate) fn kill_session(number: u32) {
    for process in session(number) {
        let _ = kill_process(number_of(process.pid), Signal::KILL);
    }
}

pub(crate) fn number_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// What processes are doing, for a person.
pub(crate) fn describe(processes: &[Entry]) -> String {
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

/// Whether the first thread of the process sleeps on a futex.
pub(crate) fn sleeps_on_a_futex(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_futex.to_string())
}
