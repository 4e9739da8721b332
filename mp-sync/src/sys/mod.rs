//! All use of the operating system, with one file for each mechanism.

#[cfg(not(target_env = "gnu"))]
compile_error!("mp-sync supports only glibc, because it needs to know the C library's robust list");

pub(crate) mod futex;
pub(crate) mod processors;
pub(crate) mod regions;
pub(crate) mod robust;
