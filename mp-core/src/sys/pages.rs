//! Memory that is about to be filled.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use rustix::mm::{Advice, madvise};

/// The size of a huge page on x86_64, and on aarch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// From this size on the C library's allocator gives memory a mapping of its own, whatever was
/// allocated before (mallopt(3), `M_MMAP_THRESHOLD`).
const OWN_MAPPING: usize = 32 << 20;

/// Asks the kernel to back `room` by huge pages where it can, which for large pieces saves most of
/// the cost of touching new memory.
///
/// It is a hint: nothing depends on it, and no memory is used before it is touched.
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
    // SAFETY: the pages from `aligned` on lie within `room`, which is exclusively borrowed memory;
    // this advice changes neither their contents nor their protection.
    let _ = unsafe { madvise(aligned, length, Advice::LinuxHugepage) };
}
