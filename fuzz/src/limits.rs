//! What must hold after each input: no descriptor is left, and memory was bounded by what had
//! arrived.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The memory that any input may take, in bytes: the buffers of a thread, and what serde reserves
/// for a sequence.
const BASE: usize = 8 << 20;

/// How many bytes of memory a byte of input may take. The largest value in one byte is an element
/// of a `Vec<Anything>`, and vectors grow by doubling.
const PER_BYTE: usize = 512;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(ALLOCATED.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `alloc` got it from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `body`, which says how many bytes had arrived, and fails if it took more memory than these
/// can justify, or leaves a descriptor open.
pub fn hold(body: impl FnOnce() -> usize) {
    let open = descriptors();
    let before = ALLOCATED.load(Relaxed);
    PEAK.store(before, Relaxed);
    let length = body();
    let taken = PEAK.load(Relaxed) - before;
    assert!(taken <= BASE + PER_BYTE * length, "{length} bytes of input took {taken} bytes of memory");
    assert_eq!(descriptors(), open, "a descriptor is left open");
}

/// Returns how many threads there are.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc is mounted").count()
}

/// Returns how many descriptors are open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}
