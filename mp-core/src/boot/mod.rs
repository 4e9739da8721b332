//! How a new process finds out that it is a child, and becomes one.
//!
//! | state | left by |
//! |---|---|
//! | not decided | the entry before `main`, or [`init`] |
//! | a program of its own | nothing: it may spawn |
//! | a child | the end of the process: it never reaches the user's `main` |
//!
//! 1. The marker is one variable of the environment, set only in what a child is started with. It
//!    holds the number of the control socket, which says the rest.
//! 2. A marker is believed only if the process is not privileged, and the socket was made by the
//!    parent, under the same user. Any other marker ends the process with a message: going on would
//!    run the user's `main` in a process that its parent takes for a child. A socket whose other
//!    end is closed may be that of a parent that is gone; then the user has to be the same, and
//!    what the socket still holds says whether this process may outlive its parent.
//! 3. The marker is taken out of the environment before any code of the user runs, so no program
//!    that the child starts inherits it.
//! 4. A process that was not asked (its executable lacks the entry, and did not call `init`) cannot
//!    spawn, because its children would not be asked either, would run `main`, and spawn in turn.

mod child;
#[cfg(feature = "auto-init")]
mod entry;
mod marker;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use marker::{MARKER, value as marker_value};
pub(crate) use start::{Report, Start};

/// Whether this process was asked what it is.
static DECIDED: AtomicBool = AtomicBool::new(false);

/// What a child cannot be started without, said wherever it is missing.
pub(crate) const CALL_INIT: &str =
    "call `mp_core::init()` as the first line of `main`, or enable the feature `auto-init` of mp-core";

/// Makes this process a child if it was started as one; then it does not return.
///
/// With the feature `auto-init`, which is on by default, this has happened before `main`, and
/// calling it does nothing. Without it, or where an executable cannot have constructors, it has to
/// be the first line of `main`: what stands before it runs in every child as well.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     mp_core::init();
///     assert_eq!(add::spawn(1, 2)?.join()?, 3);
///     Ok(())
/// }
/// ```
pub fn init() {
    if !DECIDED.swap(true, Ordering::AcqRel) {
        child::run_if_marked(None);
    }
}

/// Tells whether children of this process will find out that they are children. A process that was
/// itself started as one and does not know ends here, and its parent is told.
pub(crate) fn is_decided() -> bool {
    let decided = DECIDED.load(Ordering::Acquire);
    if !decided {
        child::end_if_marked();
    }
    decided
}

/// What the C library passes to constructors, where it does.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "auto-init"), expect(dead_code, reason = "only the entry before `main` makes one"))]
struct Constructor {
    count: std::ffi::c_int,
    arguments: *mut *const std::ffi::c_char,
    /// Runs the constructors that come after ours.
    run_remaining: fn(Constructor),
    environment: *const *const std::ffi::c_char,
}
