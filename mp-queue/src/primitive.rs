//! What the ring's protocol is made of: under loom, which has this module from elsewhere, it is
//! loom's.

pub(crate) use mp_sync::futex::{Futex, Slept};
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
