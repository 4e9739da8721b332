//! Everything that talks to the operating system, one file per mechanism.
//!
//! Together with the boot of a child (`boot`) this is the only module of the crate with `unsafe` in
//! it, which is why `bytes` is here too. What is here is chosen for the target in this one place.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-core supports Linux only so far: it stands on posix_spawn, pidfd and memfd");

pub(crate) mod bytes;
pub(crate) mod control;
pub(crate) mod credentials;
pub(crate) mod fd;
pub(crate) mod lifeline;
pub(crate) mod limits;
pub(crate) mod memfd;
pub(crate) mod pages;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod runtime;
#[cfg(feature = "async")]
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod stack;
