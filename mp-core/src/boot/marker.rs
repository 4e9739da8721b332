//! The variable that makes a process a child.

use std::env;
use std::os::fd::{OwnedFd, RawFd};

use crate::sys::{control, credentials, runtime};

/// The name of the variable. Two versions of this crate in one executable each look for their own.
pub(crate) const MARKER: &str = concat!(
    "MP_CORE_",
    env!("CARGO_PKG_VERSION_MAJOR"),
    "_",
    env!("CARGO_PKG_VERSION_MINOR"),
    "_",
    env!("CARGO_PKG_VERSION_PATCH"),
    "_CHILD"
);

/// The value of a child's marker.
pub(crate) fn value() -> String {
    control::NUMBER.to_string()
}

pub(super) fn is_set() -> bool {
    env::var_os(MARKER).is_some()
}

/// Removes the marker from the environment and returns the control socket that it names.
///
/// # Errors
///
/// The text says why the marker is not valid.
pub(super) fn take() -> Result<OwnedFd, String> {
    let text = env::var(MARKER).unwrap_or_default();
    runtime::remove_variable(MARKER);
    if credentials::is_privileged() {
        return Err(
            "the set-user-ID bit or the file capabilities of its executable give it privileges that its caller \
                    does not have"
                .to_owned(),
        );
    }
    let number: RawFd = text.parse().map_err(|_| format!("{text:?} is not the number of a descriptor"))?;
    control::adopt(number).map_err(|error| format!("descriptor {number} is not the control socket of a child: {error}"))
}
