//! The operating system: files named by the mechanism, chosen here.

pub(crate) mod futex;
pub(crate) mod processors;
