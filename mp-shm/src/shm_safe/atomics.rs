//! Atomics, except for `AtomicPtr`, because an address has no meaning in another process.

use std::sync::atomic::AtomicBool;
#[cfg(target_has_atomic = "8")]
use std::sync::atomic::{AtomicI8, AtomicU8};
#[cfg(target_has_atomic = "16")]
use std::sync::atomic::{AtomicI16, AtomicU16};
#[cfg(target_has_atomic = "32")]
use std::sync::atomic::{AtomicI32, AtomicU32};
#[cfg(target_has_atomic = "64")]
use std::sync::atomic::{AtomicI64, AtomicU64};
#[cfg(target_has_atomic = "ptr")]
use std::sync::atomic::{AtomicIsize, AtomicUsize};

use super::ShmSafe;
use crate::Layout;

/// Atomic integers, for which any bytes are valid.
macro_rules! atomics {
    ($($bits:literal: $signed:ident $unsigned:ident;)*) => {$(
        // SAFETY: it has the same bytes as the integer, for which any bytes are valid. Atomic
        // instructions work on the memory, in any process and at any address.
        #[cfg(target_has_atomic = $bits)]
        unsafe impl ShmSafe for $signed {
            const LAYOUT: Layout = Layout::of::<Self>(stringify!($signed)).any_bits();
        }

        // SAFETY: as above.
        #[cfg(target_has_atomic = $bits)]
        unsafe impl ShmSafe for $unsigned {
            const LAYOUT: Layout = Layout::of::<Self>(stringify!($unsigned)).any_bits();
        }
    )*};
}

atomics! {
    "8": AtomicI8 AtomicU8;
    "16": AtomicI16 AtomicU16;
    "32": AtomicI32 AtomicU32;
    "64": AtomicI64 AtomicU64;
    "ptr": AtomicIsize AtomicUsize;
}

// SAFETY: it has the same byte as a `bool`, and changes as the atomic integers do.
unsafe impl ShmSafe for AtomicBool {
    const LAYOUT: Layout = Layout::of::<Self>("AtomicBool").zeroable();
}
