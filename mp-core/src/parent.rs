//! The process that started this one.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::current::current;
use crate::sys::lifeline;
use crate::sys::poll::{self, Deadline};

/// The process that started this one: what [`parent`] returns.
///
/// # Process death
///
/// A process is killed with its parent, so most never see theirs dead. One that was started with
/// [`outlive_parent`](crate::Builder::outlive_parent) does, and its parent's number may be given to
/// a stranger then; what this says of the parent remains about the parent.
#[derive(Clone, Copy)]
pub struct Parent {
    name: &'static str,
    pid: u32,
    lifeline: BorrowedFd<'static>,
}

/// Describes the process that started this one; `None` if this library did not start it.
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

    /// Returns the number of the parent in the operating system.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells whether the parent has not ended yet.
    pub fn is_alive(&self) -> bool {
        // Looking without waiting fails for lack of kernel memory at most, which is no sign of an
        // end.
        !poll::hung_up(self.lifeline, Deadline::PASSED).unwrap_or(false)
    }

    /// Waits until the parent has ended.
    ///
    /// # Errors
    ///
    /// Fails if the operating system refuses to wait.
    pub fn wait(&self) -> io::Result<()> {
        poll::hung_up(self.lifeline, Deadline::NEVER).map(drop)
    }

    /// Waits until the parent has ended, for `timeout` at most, and tells whether it has.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        poll::hung_up(self.lifeline, Deadline::after(timeout))
    }
}

/// Ready, for [`wait`](crate::wait), once the parent has ended.
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
