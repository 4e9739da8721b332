//! The words that processes share about tasks. The module `tasks` explains them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32};

use super::index::Signal;

/// How many processes can hold tasks so that their death is noticed.
pub(crate) const SLOTS: usize = 1024;

/// What processes share about tasks. All-zero bytes say that there was none.
#[repr(C)]
#[derive(mp_shm::ShmSafe)]
pub(crate) struct Tasks {
    /// A process found no free slot.
    pub(crate) has_untracked: AtomicBool,
    /// How many were finished, modulo the most that the ring counts.
    pub(crate) finished: AtomicU32,
    /// Where those wait who join.
    pub(crate) all_finished: Signal,
    pub(crate) held: [AtomicU32; SLOTS],
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            has_untracked: false.into(),
            finished: 0.into(),
            all_finished: Signal::new(),
            held: [const { AtomicU32::new(0) }; SLOTS],
        }
    }
}

/// The slot of this process, once it has taken a task.
#[derive(Default)]
pub(crate) struct Slot(pub(crate) OnceLock<Option<usize>>);
