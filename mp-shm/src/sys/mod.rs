//! Everything that talks to the operating system, one file per mechanism.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-shm supports Linux only so far: it stands on sealed memfd and locks of byte ranges");

pub(crate) mod lease;
pub(crate) mod mapping;
pub(crate) mod memfd;
pub(crate) mod named;
pub(crate) mod pages;
pub(crate) mod ranges;
