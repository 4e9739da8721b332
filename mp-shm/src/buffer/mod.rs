//! Memory that has one owner at a time.
//!
//! Who owns which values is kept by the kernel: as locks of the bytes in the memory's file, held by
//! the open file description through which the owner has it (`sys::ranges`). A message carries a
//! description without any lock. So:
//!
//! 1. Values are used only while the own description has their bytes locked. No two descriptions
//!    have the same bytes, however often a message was copied, and whichever processes are killed.
//! 2. Within a process, one `Buffer` stands for each range that a description has locked: buffers
//!    are split and joined by value.
//! 3. Encoding changes nothing. The sender stays the owner until it drops its `Buffer`: slices that
//!    were borrowed from it are gone by then. So a message that is not delivered needs no undoing,
//!    and one that is delivered twice has two receivers, of which the first to take the lock is the
//!    owner.
//!
//! | state | lock | from | to |
//! |---|---|---|---|
//! | awaited | another description may have it | decoding, while the sender still had the lock | held: at a use that finds it free |
//! | held | this description has it | making, decoding, reclaiming | dropped |
//!
//! The kernel's calls order what the processes do with the values: one unlocks behind its last
//! access, the other one locks before its first.
//!
//! A process that dies leaves its bytes unlocked, with whatever it had written. Whoever may reclaim
//! them can.

mod error;
mod freeze;
mod memory;
mod reclaim;
mod rejoin;
#[cfg(test)]
mod tests;
mod travel;

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
use crate::ShmSafe;
use crate::pauses::Pauses;
use crate::segment::{Kind, Segment};
use crate::sys::memfd;

pub use self::error::{BufferError, FreezeError, RejoinError, RejoinErrorReason};
pub use self::reclaim::{ReclaimError, Reclaimer};

/// Values in memory that belong to one process at a time: sending a buffer gives it away, without a
/// copy.
///
/// A buffer is used as a slice. It goes inside messages, arguments and results like any value; only
/// a descriptor travels, however large the buffer is. So several processes can write a large result
/// in place: [`split`](Self::split) a buffer, send the parts to workers, and
/// [`rejoin`](Self::rejoin) what comes back. To let many processes read it,
/// [`freeze`](Self::freeze) it.
///
/// The values are plain data for which all bytes are valid
/// ([`Layout::is_any_bits`](crate::Layout::is_any_bits)): numbers, arrays and tuples of them, and
/// structs of those that derive [`ShmSafe`](trait@ShmSafe). Other types do not compile:
///
/// ```compile_fail,E0080
/// let flags = mp_shm::Buffer::<bool>::zeroed(8); // bytes of 0 and 1 only: use a `u8`
/// ```
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
/// it. A [`Reclaimer`] that was made beforehand takes back what was lost with another process.
///
/// # Others who are not trusted
///
/// A process that once had the memory can keep it mapped by means other than this library, and
/// change it later. It cannot make another process read or write outside of the memory, or raise
/// SIGBUS, with one exception: without overcommit (`vm.overcommit_memory` is 2) it can take pages
/// away, and the kernel may have no new ones. Freeze or copy what must not change.
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
    /// Which values of the segment.
    range: Range<usize>,
    first: NonNull<T>,
    is_held: AtomicBool,
    /// Somebody else may have the memory by the time that this is dropped. It only decides which
    /// thread takes the mapping down.
    was_encoded: AtomicBool,
}

/// How long a use of a buffer that cannot return an error waits for the previous owner, which a
/// sender by value is for an instant.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(10) };

// SAFETY: it owns its values as a `Vec` does (invariants 1 and 2).
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: the same; what can be done to it by a shared reference is atomic or a system call.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: ShmSafe + Copy> Buffer<T> {
    /// What every way to make a buffer demands.
    pub(crate) const PLAIN: () = assert!(
        T::LAYOUT.is_any_bits(),
        "a buffer holds values of which all bytes are valid: numbers, and what consists of them (a `u8` for a `bool`)"
    );

    /// Makes a buffer of `length` values of zero bytes.
    ///
    /// # Errors
    ///
    /// There is no room for so many, or descriptors or address space have run out.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let () = Self::PLAIN;
        let memory = Memory::create(Segment::create(Kind::Buffer, length)?)?;
        Ok(Self::new(Arc::new(memory), 0..length, true))
    }

    /// Makes a buffer of copies of the values. Padding between fields is copied as it is, whatever
    /// was there before: it is better not to have any in what is for those who are not trusted.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(values: &[T]) -> io::Result<Self> {
        let () = Self::PLAIN;
        let segment = Segment::create(Kind::Buffer, values.len())?;
        write(&segment, values)?;
        let memory = Memory::create(segment)?;
        Ok(Self::new(Arc::new(memory), 0..values.len(), true))
    }

    /// Takes over values that are mapped there, and the lock of their bytes if it `is_held`.
    fn new(memory: Arc<Memory<T>>, range: Range<usize>, is_held: bool) -> Self {
        debug_assert!(memory.has(&range), "they are mapped");
        let first = memory.at(range.start);
        Self { memory, range, first, is_held: AtomicBool::new(is_held), was_encoded: AtomicBool::new(false) }
    }

    /// Splits it into `parts` parts of the same length; if they cannot be, the first ones are
    /// longer by one value. Parts beyond the number of values are empty. Each part is a buffer, to
    /// be used, sent and split as one.
    ///
    /// # Panics
    ///
    /// With no parts at all; if another owner has the buffer and does not drop it within ten
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

    /// Splits it into the values before `middle` and the others.
    ///
    /// # Panics
    ///
    /// If it has fewer values; if another owner has the buffer and does not drop it within ten
    /// seconds.
    pub fn split_at(self, middle: usize) -> (Self, Self) {
        assert!(middle <= self.len(), "a buffer of {} values cannot be split at {middle}", self.len());
        self.expect_held();
        let (memory, range) = self.into_parts();
        let middle = range.start + middle;
        let start = Self::new(Arc::clone(&memory), range.start..middle, true);
        (start, Self::new(memory, middle..range.end, true))
    }

    /// Has all of its memory made now, by as many threads as may run at once: what there is no room
    /// for is an error, and touching it later takes no time for that. It is the fastest way if all
    /// of it will be written. Before Linux 5.14 the memory is only set aside.
    ///
    /// # Errors
    ///
    /// There is no room for it. Where the system overcommits memory, it may also end a process to
    /// make room, as always.
    ///
    /// # Panics
    ///
    /// If another owner has the buffer and does not drop it within ten seconds.
    pub fn populate(&mut self) -> io::Result<()> {
        self.expect_held();
        self.memory.populate(&self.range)
    }
}

/// Writes values into a new segment: by copying them, which is sooner done than mapping every page
/// to write it.
fn write<T: ShmSafe + Copy>(segment: &Segment<T>, values: &[T]) -> io::Result<()> {
    use std::os::fd::AsFd;

    let start = segment.bytes(&(0..values.len())).start;
    // SAFETY: these are the bytes of the slice.
    unsafe { memfd::copy_at(segment.as_fd(), values.as_ptr().cast(), size_of_val(values), start) }
}

impl<T> Buffer<T> {
    /// How many values it has. It can always be asked.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Which values of the whole buffer these are, of which it may be a part.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Waits until this is the owner of the values, and nobody else is: for the sender, or another
    /// receiver of the same message, to drop them. It returns at once if this is the owner already,
    /// and never waits if `timeout` is zero.
    ///
    /// # Errors
    ///
    /// Another owner still has the values after that time; the operating system refused.
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
                // Another thread may have done the same meanwhile.
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

    /// The values, if this is their owner now. It never waits and never panics.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) with no time at all.
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

    /// The values, to be changed, if this is their owner now. It never waits and never panics.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait) with no time at all.
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

    /// Takes it apart, with its lock.
    fn into_parts(self) -> (Arc<Memory<T>>, Range<usize>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: it is not used again, as `this` is not dropped; its other fields need no
        // dropping.
        let memory = unsafe { ptr::read(&raw const this.memory) };
        (memory, this.range.clone())
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    /// # Panics
    ///
    /// If another owner has the buffer and does not drop it within ten seconds. Only one that was
    /// received can have another owner; [`wait`](Buffer::wait) and
    /// [`try_as_slice`](Buffer::try_as_slice) return an error instead.
    #[inline]
    fn deref(&self) -> &[T] {
        self.expect_held();
        // SAFETY: these values are mapped, aligned and initialised: every byte of them was zero or
        // written, and any bytes are valid (`PLAIN`). The mapping lives as long as this. No other
        // process has them (invariant 1), no other buffer of this one (invariant 2), until this is
        // dropped (invariant 3).
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
        // SAFETY: as in `deref`; and nobody else in this process has a reference to them, as this
        // is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.range.len()) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if *self.is_held.get_mut() {
            self.memory.disown(&self.range);
        }
        // If parts of it are still here, the mapping is theirs too.
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
