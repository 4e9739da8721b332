//! Memory that several processes share, typed.

#![deny(unsafe_code)]

mod layout;
#[allow(unsafe_code, reason = "what is said of types cannot be checked")]
mod shm_safe;

pub use self::{layout::Layout, shm_safe::ShmSafe};
