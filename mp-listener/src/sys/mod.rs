//! All use of the operating system, with one file for each mechanism.

pub(crate) mod stream;
#[cfg(feature = "async")]
pub(crate) mod timer;
