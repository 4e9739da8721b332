//! Everything that talks to the operating system, one file per mechanism.

pub(crate) mod stream;
#[cfg(feature = "async")]
pub(crate) mod timer;
