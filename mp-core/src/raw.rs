//! For code that builds schedulers and transports on mp-core.
//!
//! Programs do not need this module: it has what [`pipe`](crate::pipe()) and
//! [`Process`](crate::Process) wait with, for crates that wait for descriptors of their own.
//! mp-listener is one.

#[cfg(feature = "async")]
pub use crate::reactor::Readiness;
pub use crate::sys::fd::above_standard_streams;
pub use crate::sys::poll::{Deadline, readable, writable};
pub use crate::watched::Watched;
