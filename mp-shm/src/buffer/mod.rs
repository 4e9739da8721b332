//! Memory that has one owner at a time.
//!
//! The kernel records who owns which values: the owner's open file description holds a lock of
//! their bytes in the memory file (`sys::ranges`). A message contains a description without locks.
//! So:
//!
//! 1. Values are used only while the owner's description has their bytes locked. No two
//!    descriptions have the same bytes locked, however often a message is copied and whichever
//!    processes are killed.
//! 2. Within a process, each locked range belongs to one `Buffer`, because buffers are split and
//!    joined by value.
//! 3. Encoding changes nothing. The sender remains the owner until it drops its `Buffer`, which
//!    ends all borrows of its slices. So nothing has to be undone if a message is not delivered. If
//!    a message is delivered twice, the first receiver that takes the lock is the owner.
//!
//! | state | lock | from | to |
//! |---|---|---|---|
//! | awaited | another description may have it | decoding, while the sender still had the lock | held: at a use, once the lock is free |
//! | held | this description has it | making, decoding, reclaiming | dropped |
//!
//! The system calls order the accesses of the two processes: one unlocks after its last access, and
//! the other locks before its first.
//!
//! If a process dies, the kernel unlocks its bytes, which contain what the process wrote. A
//! `Reclaimer` can then take them.

mod error;
mod freeze;
mod memory;
mod reclaim;
mod rejoin;
mod serialize;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::memory::Memory;
use crate::pauses::Pauses;
use crate::segment::{Kind, Segment};
use crate::sys::memfd;
use crate::{AnyBits, ShmSafe};

pub use self::error::{BufferError, FreezeError, RejoinError, RejoinErrorReason};
pub use self::reclaim::{ReclaimError, Reclaimer};

/// Values in memory that one process owns at a time. Sending a buffer gives it away without a copy.
///
/// A buffer dereferences to a slice. It can be part of any message, argument or result; only a
/// descriptor is sent, however large the buffer is. So several processes can write a large result
/// in place: [`split`](Self::split) a buffer, send the parts to workers, and
/// [`rejoin`](Self::rejoin) the returned parts. To let many processes read it,
/// [`freeze`](Self::freeze) it.
///
/// The values are plain data for which all bytes are valid
/// ([`AnyBits`]): numbers, arrays and tuples of numbers, and structs of these that derive
/// [`ShmSafe`](trait@ShmSafe).
///
/// # One owner
///
/// Send a buffer by value: a send that succeeds drops it here, and the receiver becomes its owner.
/// A send that fails gives it back.
///
/// Encoding a buffer by reference (`send_ref`, a parameter `&Buffer`,
/// [`Message::encode`](mp_core::raw::Message::encode)) changes nothing: the sender stays the owner
/// until it drops the buffer. Until then a receiver has to wait. So do all but one of several
/// receivers, when a message was copied or sent twice: the first to lock the values is the owner,
/// and the others wait until it drops them.
///
/// [`wait`](Self::wait) waits up to a timeout, and then returns [`BufferError::InUse`].
/// [`try_as_slice`](Self::try_as_slice) does not wait. Using the buffer as a slice, or splitting
/// it, waits ten seconds, and then panics.
///
/// # Memory
///
/// A buffer takes address space, and one descriptor for each that was made or received. The kernel
/// allocates its pages when they are first touched, as with a `Vec` of zeros, or all at once in
/// [`populate`](Self::populate). The values begin at a page. Making a buffer fails if the machine,
/// or a limit of this process, has too little memory left for it, and, where the system does not
/// overcommit, if the kernel cannot reserve it. If [transparent huge
/// pages](https://docs.kernel.org/admin-guide/mm/transhuge.html) for shared memory are set to
/// `advise`, buffers of 64 MiB and more use them. Limits of a `tmpfs` such as `/dev/shm` do not
/// apply.
///
/// A thread of its own unmaps a buffer of at least 64 MiB that was sent, so sending it takes no
/// longer than sending a small one.
///
/// # Process death
///
/// The kernel frees the memory with the last process that has it and the last message that holds
/// it. A [`Reclaimer`] that was made before can take back values whose owner has died.
///
/// # Trust
///
/// One owner at a time is what processes agree on that use this library. The kernel does not hold
/// a process to it that once had the memory, and kept it mapped by other means: it can change the
/// values while you own them. Rust takes for granted that what a slice refers to does not change by
/// itself, so that is undefined behaviour in your process. A value that was checked can be another
/// one when it is used.
///
/// What such a process cannot do is change the size of the memory, raise SIGBUS (with one
/// exception: without overcommit, which is when `vm.overcommit_memory` is 2, it can take pages
/// away, and the kernel may have no new ones), or mislead this library, which reads nothing in it.
///
/// So exchange buffers with processes whose code you trust not to do this, as you would with
/// threads. A crash does no such thing: a process that dies leaves what it wrote, and no more.
/// From others take a copy through a connection, or a [`FrozenBuffer`](crate::FrozenBuffer), which
/// the kernel lets nobody write.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_shm::Buffer;
///
/// #[process_fn]
/// fn square(mut numbers: Buffer<u64>) -> Buffer<u64> {
///     numbers.iter_mut().for_each(|number| *number *= *number);
///     numbers
/// }
///
/// let numbers = Buffer::from_slice(&[1, 2, 3, 4, 5])?;
/// let processes: Vec<_> = numbers.split(2).into_iter().map(square::spawn).collect::<Result<_, _>>()?;
/// let parts: Vec<_> = processes.into_iter().map(|process| process.join()).collect::<Result<_, _>>()?;
/// assert_eq!(*Buffer::rejoin(parts)?, [1, 4, 9, 16, 25]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer<T> {
    memory: Arc<Memory<T>>,
    /// The range of values in the segment.
    range: Range<usize>,
    first: NonNull<T>,
    is_held: AtomicBool,
    /// Whether another process may own the memory when this is dropped. It only decides which
    /// thread unmaps the memory.
    was_encoded: AtomicBool,
}

/// How long a use that cannot return an error waits for the previous owner. A sender by value
/// remains the owner only for an instant.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(10) };

// SAFETY: the buffer owns its values as a `Vec` does (invariants 1 and 2).
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above. Its methods with a shared reference use atomics and system calls only.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: ShmSafe + Copy> Buffer<T> {
    /// Makes a buffer of `length` values of zero bytes.
    ///
    /// # Errors
    ///
    /// Fails if there is not enough memory, address space or descriptors.
    pub fn zeroed(length: usize) -> io::Result<Self>
    where
        T: AnyBits,
    {
        let memory = Memory::create(Segment::create(Kind::Buffer, length)?)?;
        Ok(Self::new(Arc::new(memory), 0..length, true))
    }

    /// Makes a buffer of copies of the values. It copies padding between fields too, which may
    /// contain old data. So do not use types with padding for values that an untrusted process
    /// gets.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(values: &[T]) -> io::Result<Self>
    where
        T: AnyBits,
    {
        let segment = Segment::create(Kind::Buffer, values.len())?;
        write(&segment, values)?;
        let memory = Memory::create(segment)?;
        Ok(Self::new(Arc::new(memory), 0..values.len(), true))
    }

    /// Makes a buffer of mapped values. If `is_held`, it owns the lock of their bytes.
    fn new(memory: Arc<Memory<T>>, range: Range<usize>, is_held: bool) -> Self {
        debug_assert!(memory.has(&range), "the values are mapped");
        let first = memory.at(range.start);
        Self { memory, range, first, is_held: AtomicBool::new(is_held), was_encoded: AtomicBool::new(false) }
    }

    /// Splits the buffer into `parts` parts of equal length. If the number of values is not a
    /// multiple of `parts`, the first ones are longer by one value. If there are more parts than
    /// values, the last ones are empty. Each part is a buffer that can be used, sent and split.
    ///
    /// # Panics
    ///
    /// If `parts` is zero, or if another owner has the buffer and does not drop it within ten
    /// seconds.
    pub fn split(self, parts: usize) -> Vec<Self> {
        assert!(parts > 0, "a buffer is split into at least one part");
        let (least, longer) = (self.len() / parts, self.len() % parts);
        let mut rest = Some(self);
        let mut split = Vec::with_capacity(parts);
        for part in 0..parts - 1 {
            let length = least + usize::from(part < longer);
            if let Some((one, others)) = rest.take().map(|rest| rest.split_at(length)) {
                split.push(one);
                rest = Some(others);
            }
        }
        split.extend(rest);
        split
    }

    /// Splits the buffer into the values before `middle` and the rest.
    ///
    /// # Panics
    ///
    /// If the buffer has fewer than `middle` values, or if another owner has it and does not drop
    /// it within ten seconds.
    pub fn split_at(self, middle: usize) -> (Self, Self) {
        assert!(middle <= self.len(), "a buffer of {} values cannot be split at {middle}", self.len());
        self.expect_held();
        let (memory, range) = self.into_parts();
        let middle = range.start + middle;
        let start = Self::new(Arc::clone(&memory), range.start..middle, true);
        (start, Self::new(memory, middle..range.end, true))
    }

    /// Allocates all pages of the buffer now, on as many threads as can run at once. A lack of
    /// memory is then an error, and later accesses cause no page faults. It is the fastest way if
    /// all of the buffer will be written. Before Linux 5.14 the kernel only reserves the memory.
    ///
    /// # Errors
    ///
    /// Fails if there is not enough memory. If the system overcommits memory, the OOM killer may
    /// end a process instead.
    ///
    /// # Panics
    ///
    /// If another owner has the buffer and does not drop it within ten seconds.
    pub fn populate(&mut self) -> io::Result<()> {
        self.expect_held();
        self.memory.populate(&self.range)
    }
}

/// Writes values into a new segment by a system call, which takes less time than page faults on a
/// mapping.
fn write<T: ShmSafe + Copy>(segment: &Segment<T>, values: &[T]) -> io::Result<()> {
    use std::os::fd::AsFd;

    let start = segment.bytes(&(0..values.len())).start;
    // SAFETY: these are the bytes of the slice.
    unsafe { memfd::copy_at(segment.as_fd(), values.as_ptr().cast(), size_of_val(values), start) }
}

impl<T> Buffer<T> {
    /// Returns the number of values. It never waits and never panics.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Tells whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Returns the range of these values in the whole buffer.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Waits until this is the owner of the values, which is when the sender, and any other
    /// receiver of the same message, has dropped them. It returns at once if this is the owner
    /// already, and does not wait if `timeout` is zero.
    ///
    /// # Errors
    ///
    /// [`BufferError::InUse`] if another owner still has the values after `timeout`;
    /// [`BufferError::Io`] if the operating system fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_shm::{Buffer, BufferError};
    ///
    /// let (sender, receiver) = mp_core::pipe()?;
    /// let buffer = Buffer::from_slice(&[1, 2, 3])?;
    /// sender.send_ref(&buffer)?;
    ///
    /// let received: Buffer<i32> = receiver.recv()?;
    /// assert!(matches!(received.wait(Duration::from_millis(1)), Err(BufferError::InUse)));
    /// drop(buffer);
    /// received.wait(Duration::from_secs(1))?;
    /// assert_eq!(*received, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&self, timeout: Duration) -> Result<(), BufferError> {
        let start = Instant::now();
        let mut pauses = Pauses::new();
        while !self.is_held.load(Ordering::Acquire) {
            if self.memory.try_own(&self.range).map_err(BufferError::Io)? {
                // Another thread may have done this meanwhile.
                self.is_held.store(true, Ordering::Release);
                break;
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(BufferError::InUse);
            }
            pauses.next(left);
        }
        Ok(())
    }

    /// Returns the values if this is their owner now. It never waits and never panics.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) with a timeout of zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_shm::{Buffer, BufferError};
    ///
    /// let (sender, receiver) = mp_core::pipe()?;
    /// let buffer = Buffer::from_slice(&[1, 2, 3])?;
    /// sender.send_ref(&buffer)?;
    ///
    /// let received: Buffer<i32> = receiver.recv()?;
    /// assert!(matches!(received.try_as_slice(), Err(BufferError::InUse)));
    /// drop(buffer);
    /// assert_eq!(received.try_as_slice()?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_as_slice(&self) -> Result<&[T], BufferError> {
        self.wait(Duration::ZERO)?;
        Ok(self)
    }

    /// Returns the values for changing if this is their owner now. It never waits and never panics.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) with a timeout of zero.
    pub fn try_as_mut_slice(&mut self) -> Result<&mut [T], BufferError> {
        self.wait(Duration::ZERO)?;
        Ok(self)
    }

    #[inline]
    fn expect_held(&self) {
        if !self.is_held.load(Ordering::Acquire) {
            self.expect_soon();
        }
    }

    #[cold]
    fn expect_soon(&self) {
        match self.wait(PATIENCE) {
            Ok(()) => {}
            Err(BufferError::InUse) => panic!(
                "another owner still has this buffer after {PATIENCE:?}: send a buffer by value, or drop it \
                 after sending it by reference"
            ),
            Err(BufferError::Io(error)) => panic!("this buffer could not be locked: {error}"),
        }
    }

    /// Takes the buffer apart without releasing its lock.
    fn into_parts(self) -> (Arc<Memory<T>>, Range<usize>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the field is not used again, because `this` is not dropped. The other fields need
        // no drop.
        let memory = unsafe { ptr::read(&raw const this.memory) };
        (memory, this.range.clone())
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    /// # Panics
    ///
    /// If another owner has the buffer and does not drop it within ten seconds. Only a received
    /// buffer can have another owner. [`wait`](Buffer::wait) and
    /// [`try_as_slice`](Buffer::try_as_slice) return an error instead.
    #[inline]
    fn deref(&self) -> &[T] {
        self.expect_held();
        // SAFETY: these values are mapped, aligned and initialised: every byte is zero or was
        // written, and any bytes are valid (`AnyBits`). The mapping lives as long as this buffer.
        // Until this buffer is dropped (invariant 3), no other process owns them (invariant 1), and
        // no other buffer of this process (invariant 2).
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.range.len()) }
    }
}

impl<T> DerefMut for Buffer<T> {
    /// # Panics
    ///
    /// As [`deref`](Deref::deref).
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.expect_held();
        // SAFETY: as in `deref`. This buffer is borrowed mutably, so no other reference to the
        // values exists.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.range.len()) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if *self.is_held.get_mut() {
            self.memory.disown(&self.range);
        }
        // Other parts in this process share the mapping.
        if let (true, Some(memory)) = (*self.was_encoded.get_mut(), Arc::get_mut(&mut self.memory)) {
            memory.unmap();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_held.load(Ordering::Acquire) {
            true => fmt::Debug::fmt(&**self, f),
            false => f.write_str("Buffer(awaited)"),
        }
    }
}
