//! Memory that several processes share, typed.

mod layout;
mod shm_safe;

pub use self::{layout::Layout, shm_safe::ShmSafe};
