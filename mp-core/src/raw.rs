//! For code that builds schedulers and transports on mp-core. Programs do not need this module.
//!
//! - [`EncodedCall`], [`Message`] and [`Outcome`] are calls, values and results without their
//!   types, for code that passes on what others call, as mp-pool does.
//! - [`RawFunction`] runs many calls of one function without an allocation for each; [`forks`] and
//!   [`ignore_interrupts`] are for workers.
//! - [`SharedFd`] is a descriptor that waiting messages share.
//! - [`Portable`] is what a [`Builder`](crate::Builder) says that holds on another host as well.
//! - [`Spins`] decides whether a thread looks again before it sleeps.
//! - [`Deadline`], [`PollableFd`] and the functions beside them are what [`pipe`](crate::pipe())
//!   and [`Process`](crate::Process) wait with, for crates that wait for descriptors of their own,
//!   as mp-listener does.

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use crate::call::{EncodedCall, RawFunction};
pub use crate::codec::Source;
use crate::codec::{DecodeError, EncodeError};
pub use crate::descriptor::SharedFd;
pub use crate::error::error_chain;
pub use crate::large::LargeMessages;
pub use crate::message::{Message, decode_from, decode_plain};
use crate::outcome::Panic;
pub use crate::outcome::{CallError, Outcome};
use crate::panic;
pub use crate::pollable::PollableFd;
pub use crate::process::Portable;
#[cfg(feature = "async")]
pub use crate::reactor::Readiness;
pub use crate::spin::{Spins, Wait};
pub use crate::sys::fd::above_standard_streams;
pub use crate::sys::fork::forks;
pub use crate::sys::limits::file_size_limit;
pub use crate::sys::poll::{Deadline, readable, writable};
pub use crate::sys::runtime::ignore_interrupts;

/// Runs `f`, and returns its panic as a [`Panic`], for code that runs functions of the user's.
///
/// # Errors
///
/// The panic. Its place is known only in a process that this library started.
///
/// # Examples
///
/// ```
/// use mp_core::raw::catch_panic;
///
/// assert_eq!(catch_panic(|| 7), Ok(7));
/// assert_eq!(catch_panic(|| panic!("no")).map(|(): ()| ()).unwrap_err().message, "no");
/// ```
pub fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(|| panic::call_as_first_frame(f))).map_err(|payload| panic::describe(payload, ""))
}

/// Says which value an error is about, for code that passes on errors of several values as one
/// type.
///
/// # Examples
///
/// ```
/// use mp_core::raw::{Message, Within};
///
/// let error = Message::encode(&1_u8)?.decode::<String>().unwrap_err();
/// let text = error.to_string();
/// assert_eq!(error.within("answer").to_string(), format!("answer: {text}"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Within: sealed::Sealed {
    /// Puts `what` before the text, as in `arguments: ..`.
    fn within(self, what: &str) -> Self;
}

impl Within for EncodeError {
    fn within(self, what: &str) -> Self {
        self.about(what)
    }
}

impl Within for DecodeError {
    fn within(self, what: &str) -> Self {
        self.about(what)
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::EncodeError {}
    impl Sealed for super::DecodeError {}
}
