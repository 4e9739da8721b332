//! The bytes themselves, which other processes read and write as they like.

use std::slice;

use super::memory::SharedMemory;

impl SharedMemory {
    /// Returns where the memory is mapped in this process, aligned to a page; elsewhere it is at
    /// another address.
    ///
    /// There are [`size`](Self::size) bytes, readable and writable until this handle is dropped.
    /// Reading and writing through the pointer is subject to what [`as_slice`](Self::as_slice)
    /// says; for values that several processes change at the same time there are atomics,
    /// [`AtomicU64::from_ptr`](std::sync::atomic::AtomicU64::from_ptr) for example.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping().as_mut_ptr()
    }

    /// Returns the bytes, in place.
    ///
    /// # Safety
    ///
    /// As long as the slice is in use,
    ///
    /// - nobody writes to these bytes: not this process, and no other that has opened the memory by
    ///   its name or was sent it, be it in Rust or in Python. Neither this type nor the system sees
    ///   to that; a lock in another place or a message that says "done" has to. Where that cannot
    ///   be had, use [`read_at`](Self::read_at);
    /// - nobody shortens the file: reading behind its end raises SIGBUS, which ends this process.
    ///
    /// The memory has to be there as well: where a program in C or Python has created it, pages
    /// that were never written are made when they are first touched, and SIGBUS says that there is
    /// no room for them. Memory that this library creates is there from the beginning.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped as long as this handle is, at most `isize::MAX`, any
        // byte is a `u8`, and the caller sees to it that nobody writes them.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.size()) }
    }

    /// Returns the bytes, in place, for writing.
    ///
    /// # Safety
    ///
    /// What [`as_slice`](Self::as_slice) demands, and that nobody reads these bytes as long as the
    /// slice is in use either. That this handle is borrowed exclusively does not see to it: others
    /// may have one too.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the same, and the caller sees to it that nobody else uses them at all.
        unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.size()) }
    }
}
