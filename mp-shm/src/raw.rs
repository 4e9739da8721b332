//! For code that lays out its own shared memory, as mp-queue does. Programs do not need this
//! module.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use memmap2::MmapRaw;
use mp_sync::SharedRegion;

use mp_core::raw::SharedFd;

use crate::segment::{self, Kind, Segment};
use crate::sys::{mapping, memfd, ranges};
use crate::{AttachError, ShmSafe, Zeroable};

/// Shared memory that begins with a value of type `H`, followed by plain bytes.
///
/// It is sent as a descriptor ([`duplicate`](Self::duplicate)), which [`attach`](Self::attach)
/// checks. Locks in the head report the death of their owner.
///
/// # Members
///
/// A region can tell whether other holders exist. Each region, and each descriptor from
/// [`duplicate`](Self::duplicate), can be a member of groups. A group is a number that the caller
/// chooses. The kernel records the members, as locks of byte ranges of the file
/// ([fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "Open file description locks").
/// A membership ends when the last descriptor of the member is closed, whether that is in a
/// process, which may be killed, or in a message in flight.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use mp_shm::raw::Region;
///
/// let region = Region::create(AtomicU64::new(7), 4096)?;
/// let file = region.duplicate(&[1])?;
/// assert!(region.has_others(1)?);
///
/// let other = Region::<AtomicU64>::attach(file)?;
/// other.head().store(8, Ordering::Relaxed);
/// assert_eq!((region.head().load(Ordering::Relaxed), region.len()), (8, 4096));
///
/// drop(other);
/// assert!(!region.has_others(1)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Region<H> {
    segment: Segment<H>,
    /// Keeps the memory mapped.
    _region: SharedRegion<MmapRaw>,
    head: NonNull<H>,
    bytes: NonNull<u8>,
    /// `&self` gives a reference to an `H`.
    values: PhantomData<H>,
}

// SAFETY: the pointers are into the mapping, which the region owns and which any thread may use.
// Threads share the `H`, which has to be `Send` and `Sync`.
unsafe impl<H: Send + Sync> Send for Region<H> {}
// SAFETY: as above.
unsafe impl<H: Send + Sync> Sync for Region<H> {}

impl<H: ShmSafe + Send + Sync> Region<H> {
    /// Makes memory that begins with `head`, followed by `length` bytes, which are zero.
    ///
    /// # Errors
    ///
    /// Fails if there is no free descriptor, memory or address space.
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel or the C library lacks what
    /// [`SharedRegion`] needs.
    pub fn create(head: H, length: usize) -> io::Result<Self> {
        let region = Self::map(Segment::create(Kind::Region, length)?)?;
        // SAFETY: this is memory for an `H`, aligned and mapped for writing. No other process has
        // it yet.
        unsafe { region.head.write(head) };
        Ok(region)
    }

    /// Attaches the memory of a region that another process made.
    ///
    /// # Errors
    ///
    /// Fails if the descriptor is not a region with such a head, or if the operating system fails.
    pub fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        Self::received(file).and_then(|segment| Ok(Self::map(segment)?))
    }

    /// The same, as a member of `groups` in its own right: a message that was received several
    /// times delivers the same descriptor, and so the same membership, to each receiver.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach), and if `/proc` is not mounted.
    pub fn attach_as_member(file: OwnedFd, groups: &[u32]) -> Result<Self, AttachError> {
        let received = Self::received(file)?;
        let own = received.with_file(memfd::reopen(received.as_fd())?);
        for group in groups {
            ranges::share(own.as_fd(), byte(*group))?;
        }
        // Only now is the descriptor closed that was a member until here.
        drop(received);
        Ok(Self::map(own)?)
    }

    fn received(file: OwnedFd) -> Result<Segment<H>, AttachError> {
        match Segment::attach(file, Kind::Region)? {
            (_, true) => Err(AttachError::Frozen),
            (segment, false) => Ok(segment),
        }
    }

    /// Makes zeroed memory that begins with an `H`, followed by `length` bytes.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn zeroed(length: usize) -> io::Result<Self>
    where
        H: Zeroable,
    {
        Self::map(Segment::create(Kind::Region, length)?)
    }

    fn map(segment: Segment<H>) -> io::Result<Self> {
        let mapping = mapping::writable(segment.as_fd(), segment.everything())?;
        let (start, length) = (mapping.as_mut_ptr(), mapping.len());
        // SAFETY: this is a shared mapping of a file of sealed size. Only its address is used, and
        // dropping the `MmapRaw` unmaps it. No reference to the head outlives the region.
        let region = unsafe { SharedRegion::new(mapping, start, length)? };
        let offset = segment::start::<H>(Kind::Region);
        let head = region.at::<H>(offset).and_then(NonNull::new).ok_or(io::ErrorKind::InvalidData)?;
        let bytes = NonNull::new(start.wrapping_add(offset + size_of::<H>())).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { segment, _region: region, head, bytes, values: PhantomData })
    }
}

impl<H> Region<H> {
    pub(crate) fn file(&self) -> &SharedFd {
        self.segment.file()
    }

    /// Returns the value at the beginning.
    #[inline]
    pub fn head(&self) -> &H {
        // SAFETY: the mapping contains an aligned `H` there, which was written before any other
        // process had the memory, and which stays mapped as long as this region is borrowed. The
        // constructors require `H: ShmSafe + Sync`, so `H` allows the accesses of other processes.
        unsafe { self.head.as_ref() }
    }

    /// Returns the address of the bytes in this process. There are [`len`](Self::len) bytes, as
    /// long as the region exists. Other processes may write them at any time.
    #[inline]
    pub fn bytes(&self) -> NonNull<u8> {
        self.bytes
    }

    /// Returns how many bytes follow the head.
    #[inline]
    pub fn len(&self) -> usize {
        self.segment.len()
    }

    /// Tells whether no bytes follow the head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes this region a member of a group. Repeated calls have no effect.
    ///
    /// # Errors
    ///
    /// Fails if another region is [`alone`](Self::alone) in the group, or if the operating system
    /// fails.
    pub fn enter(&self, group: u32) -> io::Result<()> {
        ranges::share(self.as_fd(), byte(group))
    }

    /// Makes this region the only member of a group, unless the group has other members, and tells
    /// whether it did.
    ///
    /// # Errors
    ///
    /// Fails if the operating system fails.
    pub fn alone(&self, group: u32) -> io::Result<bool> {
        ranges::try_take(self.as_fd(), byte(group))
    }

    /// Ends the membership.
    ///
    /// # Errors
    ///
    /// Fails if the operating system fails.
    pub fn leave(&self, group: u32) -> io::Result<()> {
        ranges::give_back(self.as_fd(), byte(group))
    }

    /// Tells whether a group has members besides this region.
    ///
    /// # Errors
    ///
    /// Fails if the operating system fails.
    pub fn has_others(&self, group: u32) -> io::Result<bool> {
        ranges::are_held_by_others(self.as_fd(), byte(group))
    }

    /// Makes a descriptor for another process. The descriptor, and the region that is attached with
    /// it, is a member of `groups`.
    ///
    /// # Errors
    ///
    /// Fails if descriptors ran out or `/proc` is not mounted.
    pub fn duplicate(&self, groups: &[u32]) -> io::Result<OwnedFd> {
        let file = memfd::reopen(self.as_fd())?;
        for group in groups {
            ranges::share(file.as_fd(), byte(*group))?;
        }
        Ok(file)
    }
}

fn byte(group: u32) -> std::ops::Range<u64> {
    u64::from(group)..u64::from(group) + 1
}

impl<H> AsFd for Region<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

impl<H> fmt::Debug for Region<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("fd", &self.as_fd()).field("len", &self.len()).finish_non_exhaustive()
    }
}
