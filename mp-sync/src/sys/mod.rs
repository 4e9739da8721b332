//! The operating system: files named by the mechanism, chosen here.

#[cfg(not(target_env = "gnu"))]
compile_error!("mp-sync knows the robust list of glibc only so far");

pub(crate) mod futex;
pub(crate) mod processors;
pub(crate) mod regions;
pub(crate) mod robust;
