//! All use of the operating system, with one file for each mechanism.
//!
//! Only this module and `boot` contain `unsafe`, which is why `bytes` is here too.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-core supports only Linux: it needs pidfd, memfd and SOCK_SEQPACKET");

pub(crate) mod bytes;
pub(crate) mod control;
pub(crate) mod credentials;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod forking;
pub(crate) mod lifeline;
pub(crate) mod limits;
pub(crate) mod memfd;
pub(crate) mod pages;
pub(crate) mod poll;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod runtime;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod stack;
pub(crate) mod strings;
