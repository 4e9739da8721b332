//! The process that started this one.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::current::current;
use crate::sys::lifeline;
use crate::sys::poll::{self, Deadline};

/// The process that started this one, from [`parent`].
///
/// # Process death
///
/// The kernel kills a process when its parent dies, unless it was started with
/// [`outlive_parent`](crate::Builder::outlive_parent). Such a process sees that its parent has
/// ended. The methods never confuse the parent with a later process that has the same pid.
#[derive(Clone, Copy)]
pub struct Parent {
    name: &'static str,
    pid: u32,
    lifeline: BorrowedFd<'static>,
}

/// Returns the process that started this one, or `None` if this library did not start it.
///
/// # Examples
///
/// ```
/// use mp_core::{parent, process_fn};
///
/// #[process_fn]
/// fn ask() -> (String, bool) {
///     let parent = parent().unwrap();
///     (parent.name().to_owned(), parent.is_alive())
/// }
///
/// assert!(parent().is_none());
/// assert_eq!(ask::spawn()?.join()?, ("MainProcess".to_owned(), true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parent() -> Option<Parent> {
    let (name, pid) = current().parent()?;
    Some(Parent { name, pid, lifeline: lifeline::of_parent()? })
}

impl Parent {
    /// Returns the name of the parent.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the process ID of the parent.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells whether the parent has not ended yet.
    pub fn is_alive(&self) -> bool {
        // Polling fails only for lack of kernel memory, which does not mean that the parent has
        // ended.
        !poll::hung_up(self.lifeline, Deadline::PASSED).unwrap_or(false)
    }

    /// Makes the kernel kill this process when its parent ends, as it does from the start.
    ///
    /// Call it after this process has changed its user, unless the process that became another user
    /// was root of the machine: the kernel sends the signal only if the user who asked for it may
    /// signal the one that the process has become. If the parent has ended already, this kills the
    /// process. In a process that may outlive its parent it does nothing.
    ///
    /// # Errors
    ///
    /// Fails in a copy that `fork` made of this process, and if the descriptors of this process
    /// were closed.
    pub fn rearm(&self) -> io::Result<()> {
        lifeline::tie_again()
    }

    /// Waits until the parent has ended.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot wait.
    pub fn wait(&self) -> io::Result<()> {
        poll::hung_up(self.lifeline, Deadline::NEVER).map(drop)
    }

    /// Waits until the parent has ended, for `timeout` at most, and tells whether it has ended.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        poll::hung_up(self.lifeline, Deadline::after(timeout))
    }
}

/// For [`wait`](crate::wait): ready once the parent has ended.
impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lifeline
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent")
            .field("name", &self.name)
            .field("pid", &self.pid)
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}
