//! Events for `tracing`, with the feature of that name.
//!
//! | event | level | fields |
//! |---|---|---|
//! | a process was started | debug | `name`, `pid`, `function` |
//! | a process could not be started | debug | `name`, `function`, `error` |
//! | a signal is sent | debug | `name`, `pid`, `signal` |
//! | a process has ended and was reaped | debug | `name`, `pid`, `status` |
//! | in the child: the function begins | trace | `name`, `function` |
//! | in the child: the process exits | trace | `name`, `code` |
//!
//! The target is `mp_core::process`. The end of a process that was dropped is noticed at the next
//! spawn.

use std::fmt::Display;

use crate::exit_status::ExitStatus;

macro_rules! event {
    ($level:ident, { $($field:ident = $value:expr),+ }, $message:literal) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "mp_core::process", tracing::Level::$level, $($field = $value,)+ $message);
        #[cfg(not(feature = "tracing"))]
        {
            $(let _ = &$value;)+
        }
    }};
}

pub(crate) fn spawned(name: &str, pid: u32, function: &str) {
    event!(DEBUG, { name = name, pid = pid, function = function }, "process started");
}

pub(crate) fn not_spawned(name: Option<&str>, function: &str, error: &dyn Display) {
    event!(DEBUG, { name = name, function = function, error = error.to_string() }, "process not started");
}

pub(crate) fn signalled(name: &str, pid: u32, signal: i32) {
    event!(DEBUG, { name = name, pid = pid, signal = signal }, "signal sent");
}

pub(crate) fn reaped(name: &str, pid: u32, status: ExitStatus) {
    event!(DEBUG, { name = name, pid = pid, status = status.to_string() }, "process ended");
}

pub(crate) fn begins(name: &str, function: &str) {
    event!(TRACE, { name = name, function = function }, "function begins");
}

pub(crate) fn exits(name: &str, code: i32) {
    event!(TRACE, { name = name, code = code }, "process exits");
}
