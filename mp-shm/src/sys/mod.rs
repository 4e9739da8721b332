//! All use of the operating system, with one file for each mechanism.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-shm supports only Linux: it needs sealed memory files and locks of byte ranges");

pub(crate) mod lease;
pub(crate) mod mapping;
pub(crate) mod memfd;
pub(crate) mod named;
pub(crate) mod pages;
pub(crate) mod ranges;
