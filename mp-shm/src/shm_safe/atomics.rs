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

use super::{AnyBits, ShmSafe, Zeroable};
use crate::Layout;

/// Atomic integers, for which any bytes are valid.
macro_rules! atomics {
    ($($bits:literal: $number:ident;)*) => {$(
        // SAFETY: it has the same bytes as the integer. Atomic instructions work on the memory, in
        // any process and at any address.
        #[cfg(target_has_atomic = $bits)]
        unsafe impl ShmSafe for $number {
            const LAYOUT: Layout = Layout::of::<Self>(stringify!($number));
        }

        // SAFETY: any bytes are valid for the integer.
        #[cfg(target_has_atomic = $bits)]
        unsafe impl Zeroable for $number {}

        // SAFETY: as above.
        #[cfg(target_has_atomic = $bits)]
        unsafe impl AnyBits for $number {}
    )*};
}

atomics! {
    "8": AtomicI8;
    "8": AtomicU8;
    "16": AtomicI16;
    "16": AtomicU16;
    "32": AtomicI32;
    "32": AtomicU32;
    "64": AtomicI64;
    "64": AtomicU64;
    "ptr": AtomicIsize;
    "ptr": AtomicUsize;
}

// SAFETY: it has the same byte as a `bool`, and changes as the atomic integers do.
unsafe impl ShmSafe for AtomicBool {
    const LAYOUT: Layout = Layout::of::<Self>("AtomicBool");
}

// SAFETY: 0 is `false`.
unsafe impl Zeroable for AtomicBool {}
