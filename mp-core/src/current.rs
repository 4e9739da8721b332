//! The name of this process, and its place in the tree of processes.

use std::borrow::Cow;
use std::ffi::{CString, OsString};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::sys::fork::Replaceable;

/// The name and the pid of this process, from [`current`].
#[derive(Debug)]
pub struct Current {
    name: Cow<'static, str>,
    identity: Vec<u64>,
    /// How many children it has started.
    children: AtomicU64,
    /// The name and the pid of the parent, if this library started the process.
    parent: Option<(String, u32)>,
}

impl Current {
    /// Returns the name. It is the name that the [`Builder`](crate::Builder) set, or by default
    /// `Process-` and the path from the root process. A process that this library did not start is
    /// called `MainProcess`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process ID of this process.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Tells whether this library started the process.
    pub fn is_child(&self) -> bool {
        self.parent.is_some()
    }

    pub(crate) fn parent(&self) -> Option<(&str, u32)> {
        self.parent.as_ref().map(|(name, pid)| (name.as_str(), *pid))
    }
}

static CURRENT: Replaceable<Current> = Replaceable::new();

/// A process that this library did not start.
static MAIN: Current =
    Current { name: Cow::Borrowed("MainProcess"), identity: Vec::new(), children: AtomicU64::new(0), parent: None };

/// Describes this process.
///
/// # Examples
///
/// ```
/// assert_eq!(mp_core::current().name(), "MainProcess");
/// assert!(!mp_core::current().is_child());
/// ```
pub fn current() -> &'static Current {
    CURRENT.get().unwrap_or(&MAIN)
}

pub(crate) fn name() -> &'static str {
    current().name()
}

/// The name of a child and its place in the tree. Its parent decides both.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    path: Vec<u64>,
    parent: (String, u32),
}

impl Identity {
    /// The next child of this process. Its default name is its path from the root: the second child
    /// of `Process-1` is `Process-1:2`.
    pub(crate) fn of_next_child(name: Option<String>) -> Self {
        let mut path = current().identity.clone();
        path.push(current().children.fetch_add(1, Ordering::Relaxed) + 1);
        let default = || format!("Process-{}", path.iter().map(u64::to_string).collect::<Vec<_>>().join(":"));
        let parent = (current().name().to_owned(), std::process::id());
        Self { name: name.unwrap_or_else(default), path, parent }
    }

    /// Gives this process the name and place that its parent decided.
    pub(crate) fn assume(self) -> &'static Current {
        let (name, parent) = (Cow::Owned(self.name), Some(self.parent));
        CURRENT.set(Current { name, identity: self.path, children: AtomicU64::new(0), parent })
    }

    /// What `ps` shows in place of the program: the name of the file and the name of the process,
    /// and spaces if that is shorter than `least`.
    pub(crate) fn title(&self, program: &OsString, least: usize) -> CString {
        let file = std::path::Path::new(program).file_name().unwrap_or(program);
        let title = format!("{}: {}", file.to_string_lossy(), self.name);
        let title = format!("{title:least$}");
        CString::new(title.replace('\0', " ")).unwrap_or_default()
    }
}
