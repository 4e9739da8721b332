//! The children that this library started in this process and that are not reaped yet.
//!
//! | child | listed until | reaped by |
//! |---|---|---|
//! | has a `Process` | its `Process` is dropped | its `Process`, or `active_children` |
//! | its `Process` was dropped | it is reaped | the next spawn, or `active_children` |
//!
//! No thread does this. Each spawn first reaps, with one poll, the children whose `Process` was
//! dropped. So the only such zombies are children that ended since the last spawn.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::record::Record;
use crate::exit_status::ExitStatus;
use crate::sys::fork::{PerProcess, forks};
use crate::sys::poll::{self, Deadline};

static CHILDREN: PerProcess<Mutex<Children>> = PerProcess::new(Mutex::default);

/// The keys are the order in which the children were started.
#[derive(Default)]
struct Children {
    started: u64,
    attached: BTreeMap<u64, Arc<Record>>,
    detached: BTreeMap<u64, Arc<Record>>,
}

fn children() -> MutexGuard<'static, Children> {
    CHILDREN.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child's key in the list.
#[derive(Debug)]
pub(super) struct Key {
    number: u64,
    forks: u32,
}

impl Key {
    /// Tells whether this process started the child, and is not a copy of the one that did.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.forks == forks()
    }
}

/// Adds a new child, which has a `Process`.
pub(super) fn add(record: &Arc<Record>) -> Key {
    let mut children = children();
    children.started += 1;
    let number = children.started;
    children.attached.insert(number, Arc::clone(record));
    Key { number, forks: forks() }
}

/// Records that the `Process` of a child was dropped.
pub(super) fn detach(key: &Key) {
    if !key.is_of_this_process() {
        return;
    }
    let mut children = children();
    let Some(record) = children.attached.remove(&key.number) else { return };
    children.detached.insert(key.number, Arc::clone(&record));
    drop(children);
    forget_ended(vec![(key.number, record)]);
}

/// Reaps the children that have ended and whose `Process` was dropped.
pub(super) fn sweep() {
    let detached = list(&children().detached);
    if detached.is_empty() {
        return;
    }
    let mut fds: Vec<_> = detached.iter().map(|(_, record)| PollFd::new(record, PollFlags::IN)).collect();
    // If polling fails, for lack of kernel memory, the next spawn tries again.
    if !matches!(poll::wait(&mut fds, Deadline::PASSED), Ok(1..)) {
        return;
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    forget_ended(detached.into_iter().zip(ready).filter_map(|(child, ready)| ready.then_some(child)).collect());
}

/// Reaps those of `candidates` that have ended. The list is not locked meanwhile, because a
/// subscriber of `tracing` may use it.
fn forget_ended(mut candidates: Vec<(u64, Arc<Record>)>) {
    candidates.retain(|(_, record)| record.has_ended());
    let mut children = children();
    for (key, _) in &candidates {
        children.detached.remove(key);
    }
}

fn list(children: &BTreeMap<u64, Arc<Record>>) -> Vec<(u64, Arc<Record>)> {
    children.iter().map(|(key, record)| (*key, Arc::clone(record))).collect()
}

/// Lists the children of this process that have not ended, oldest first.
///
/// The list contains the children that this library started, including those whose
/// [`Process`](crate::Process) was dropped or detached, and those from a
/// [`ForkServer`](crate::ForkServer), but not the server itself. The call reaps children that have
/// ended.
///
/// # Examples
///
/// ```
/// use mp_core::{Builder, active_children, process_fn};
///
/// #[process_fn]
/// fn sleep_forever() {
///     loop {
///         std::thread::park();
///     }
/// }
///
/// Builder::new().name("sleeper").spawn(sleep_forever::call())?.detach();
/// let children = active_children();
/// assert_eq!(children[0].name(), "sleeper");
/// for child in children {
///     child.kill()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn active_children() -> Vec<ChildInfo> {
    let (mut active, detached) = {
        let children = children();
        (list(&children.attached), list(&children.detached))
    };
    active.extend(detached.iter().cloned());
    active.retain(|(_, record)| !record.has_ended() && !record.is_server);
    forget_ended(detached);
    active.sort_by_key(|(key, _)| *key);
    active.into_iter().map(|(_, record)| ChildInfo::new(record)).collect()
}

/// A child of this process, from [`active_children`] or [`Process::info`](crate::Process::info).
///
/// It can observe the child and signal it, from any thread. Only its [`Process`](crate::Process)
/// can get its value.
///
/// # Process death
///
/// After the child has ended, this still describes it, and sending it signals does nothing. They
/// never reach a later process that has the same pid.
#[derive(Clone)]
pub struct ChildInfo {
    record: Arc<Record>,
}

impl ChildInfo {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.record.pid()
    }

    /// Returns the name of the process.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Tells whether the process has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none() && self.record.runs()
    }

    /// Returns how the process ended, or `None` while it runs, as
    /// [`Process::exit_status`](crate::Process::exit_status) does.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.record.exit_status()
    }

    /// Sends SIGINT. Does nothing to a process that has ended.
    ///
    /// # Errors
    ///
    /// Fails if the process changed its user and this process may no longer signal it.
    pub fn interrupt(&self) -> io::Result<()> {
        self.record.signal(Signal::INT)
    }

    /// Sends SIGTERM, which a process can handle. Does nothing to a process that has ended.
    ///
    /// # Errors
    ///
    /// As [`interrupt`](Self::interrupt).
    pub fn terminate(&self) -> io::Result<()> {
        self.record.signal(Signal::TERM)
    }

    /// Sends SIGKILL, which a process cannot handle or ignore. Does nothing to a process that has
    /// ended.
    ///
    /// # Errors
    ///
    /// As [`interrupt`](Self::interrupt).
    pub fn kill(&self) -> io::Result<()> {
        self.record.signal(Signal::KILL)
    }
}

/// The sentinel: readable once the process has ended.
impl AsFd for ChildInfo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.record.as_fd()
    }
}

impl fmt::Debug for ChildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.describe(f, "ChildInfo")
    }
}
