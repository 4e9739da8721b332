//! The variable that makes a process a child.

use std::env;
use std::os::fd::{OwnedFd, RawFd};

use crate::sys::{control, credentials, runtime};

/// The name of the variable. Two incompatible versions of this crate in one executable each look for their own.
pub(crate) const MARKER: &str =
    concat!("MP_CORE_", env!("CARGO_PKG_VERSION_MAJOR"), "_", env!("CARGO_PKG_VERSION_MINOR"), "_CHILD");

/// What the marker of a helper that sends back one of its standard streams begins with.
const STREAM: &str = "stream ";

/// What a child's marker says.
pub(crate) fn value() -> String {
    control::NUMBER.to_string()
}

/// What the marker of a helper says that sends back its standard stream `number`.
pub(crate) fn stream_value(number: usize) -> String {
    format!("{STREAM}{number}")
}

pub(super) fn is_set() -> bool {
    env::var_os(MARKER).is_some()
}

/// What a process was started for.
pub(super) enum Errand {
    /// To run a function, which this control socket names.
    Child(OwnedFd),
    /// To send back the standard stream of this number, over another one.
    Stream(usize),
}

/// Takes the marker out of the environment and returns what it says.
///
/// # Errors
///
/// Says why the marker cannot be believed.
pub(super) fn take() -> Result<Errand, String> {
    let text = env::var(MARKER).unwrap_or_default();
    runtime::remove_variable(MARKER);
    if credentials::is_privileged() {
        return Err("the process runs with privileges that its caller does not have".to_owned());
    }
    let nonsense = || format!("{text:?} names no descriptor");
    if let Some(number) = text.strip_prefix(STREAM) {
        return number.parse().map(Errand::Stream).map_err(|_| nonsense());
    }
    let number: RawFd = text.parse().map_err(|_| nonsense())?;
    match control::adopt(number) {
        Ok(control) => Ok(Errand::Child(control)),
        Err(error) => Err(format!("descriptor {number} is no control socket of a parent: {error}")),
    }
}
