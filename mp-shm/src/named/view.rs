//! Access in place to the bytes, which other processes can read and write at any time.

use std::slice;

use super::memory::SharedMemory;

impl SharedMemory {
    /// Returns the address of the memory in this process, aligned to a page. Other processes have
    /// it at other addresses.
    ///
    /// There are [`size`](Self::size) bytes, readable and writable until this value is dropped.
    /// Access through the pointer has the conditions of [`as_slice`](Self::as_slice). For values
    /// that several processes change at the same time use atomics, for example
    /// [`AtomicU64::from_ptr`](std::sync::atomic::AtomicU64::from_ptr).
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping().as_mut_ptr()
    }

    /// Returns the bytes, in place.
    ///
    /// # Safety
    ///
    /// While the slice is in use,
    ///
    /// - no process writes to these bytes: neither this one, nor any other that opened or received
    ///   the memory, in any language. Neither this type nor the kernel enforces that. A lock
    ///   elsewhere or a message that says "done" can; otherwise use [`read_at`](Self::read_at);
    /// - no process shortens the file: reading after its end raises SIGBUS, which ends this
    ///   process.
    ///
    /// The memory has to be allocated as well. If a program in C or Python created it, the kernel
    /// may allocate pages only at the first access, and raises SIGBUS if there is no room for them.
    /// Memory that this library creates is allocated at once.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: `size` bytes, at most `isize::MAX`, are mapped as long as `self` exists. Any byte
        // is a valid `u8`. The caller guarantees that no process writes them.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.size()) }
    }

    /// Returns the bytes, in place, for writing.
    ///
    /// # Safety
    ///
    /// The conditions of [`as_slice`](Self::as_slice). In addition, no process reads these bytes
    /// while the slice is in use. The exclusive borrow of this value does not guarantee that,
    /// because there may be other values for the same memory.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the caller guarantees that no other code accesses the bytes.
        unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.size()) }
    }
}
