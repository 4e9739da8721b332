//! Advice for memory that is about to be filled.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use rustix::mm::{Advice, madvise};

/// The size of a huge page on x86_64, and on aarch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// From this size on, the C library's allocator always makes a separate mapping (mallopt(3),
/// `M_MMAP_THRESHOLD`).
const OWN_MAPPING: usize = 32 << 20;

/// Asks the kernel to back `room` by huge pages where possible. For large memory this saves most of
/// the cost of the first access.
///
/// It is only advice: nothing depends on it, and the kernel allocates no memory before the first
/// access.
pub(crate) fn prefer_huge(room: &mut [MaybeUninit<u8>]) {
    if room.len() < OWN_MAPPING {
        return;
    }
    let start = room.as_mut_ptr();
    let skip = start.align_offset(HUGE_PAGE);
    let length = room.len().saturating_sub(skip) / HUGE_PAGE * HUGE_PAGE;
    if length == 0 {
        return;
    }
    let aligned = start.wrapping_add(skip).cast::<c_void>();
    // SAFETY: the pages are within `room`, which is exclusively borrowed. The advice changes
    // neither their contents nor their protection.
    let _ = unsafe { madvise(aligned, length, Advice::LinuxHugepage) };
}
