//! How a new process finds out that it is a child, and becomes one.
//!
//! | state | left by |
//! |---|---|
//! | not decided | the entry before `main`, or [`init`] |
//! | not a child | nothing: it may spawn |
//! | a child, or a process with a [role](role) | the end of the process: the user's `main` does not run |
//!
//! 1. The marker is an environment variable that only children are started with. It holds the
//!    number of the control socket's descriptor. Everything else arrives through that socket.
//! 2. A marker is valid only if the process is not privileged, and its parent made the socket,
//!    under the same user. An invalid marker ends the process with an error message: if it went on,
//!    it would run the user's `main` in a process that its parent takes for a child. If the other
//!    end of the socket is closed, the parent may have died. Then only the user has to be the same,
//!    and the start message in the socket says whether this process may outlive its parent.
//! 3. The marker is removed from the environment before any code of the user runs, so no program
//!    that the child starts inherits it.
//! 4. A process that ran neither the entry nor `init` cannot spawn. Its children would run neither
//!    as well, so they would run `main` and spawn in turn.

mod child;
#[cfg(feature = "auto-init")]
mod entry;
mod marker;
mod own;
mod role;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use child::{REFUSED, own_descriptors, run_forked};
pub(crate) use marker::{MARKER, value as marker_value};
pub(crate) use own::OwnSettings;
pub use role::{ROLES, Role};
pub(crate) use start::{Report, Start};

/// Whether this process has found out what it is.
static DECIDED: AtomicBool = AtomicBool::new(false);

/// Whether `init` was called.
static CALLED: AtomicBool = AtomicBool::new(false);

/// The part of several error messages that says what is missing.
pub(crate) const CALL_INIT: &str =
    "call `mp_core::init()` as the first line of `main`, or enable the feature `auto-init` of mp-core";

/// Runs the function of this process if it was started as a child, and then exits; otherwise
/// returns.
///
/// With the default feature `auto-init`, this happens before `main`, and calling `init` does
/// nothing. Without the feature, or in an executable without constructors, call it in the first
/// line of `main`: code before it runs in every child as well.
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
    CALLED.store(true, Ordering::Release);
    if !DECIDED.swap(true, Ordering::AcqRel) {
        child::run_if_marked(None);
        role::run_if_applies(None);
    }
}

/// Tells whether this process has called [`init`], and so does that in its children as well.
pub(crate) fn is_called_by_host() -> bool {
    CALLED.load(Ordering::Acquire)
}

/// Tells whether children of this process will find out that they are children. If this process was
/// itself started as a child and did not find out, this ends it and reports that to its parent.
pub(crate) fn is_decided() -> bool {
    let decided = DECIDED.load(Ordering::Acquire);
    if !decided {
        child::end_if_marked();
    }
    decided
}

/// The arguments of a constructor. Only glibc passes them.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "auto-init"), expect(dead_code, reason = "only the entry before `main` makes one"))]
struct Constructor {
    count: std::ffi::c_int,
    arguments: *mut *const std::ffi::c_char,
    /// Runs the constructors that come after ours.
    run_remaining: fn(Constructor),
    environment: *const *const std::ffi::c_char,
}
