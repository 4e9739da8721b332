//! Memory with a name.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::MmapRaw;

use super::creation::{self, Created, Ownership};
use super::error::SharedMemoryError as Error;
use super::name::Name;
use super::sweep;
use crate::sys::named;

/// Shared memory with a name, for unrelated programs, compatible with Python's
/// `multiprocessing.shared_memory.SharedMemory`.
///
/// It is a POSIX shared memory object, a file in `/dev/shm`, so programs in Rust, Python and C can
/// open each other's memory. Only the same user can open it (mode 0600, as in CPython).
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at) are safe and make one to three
/// system calls each. [`as_slice`](Self::as_slice) and [`as_ptr`](Self::as_ptr) access the memory
/// in place. They are not safe to use, because other processes can write at any time. Between
/// processes that use this library, the types without a name have safe access in place.
///
/// The name exists as long as the **creator's** value: dropping that unlinks the name, unless it
/// was [kept](Self::keep). Processes that have the memory open can still use it, and the kernel
/// frees it with the last of them. Dropping a value from [`open`](Self::open), from
/// [`try_clone`](Self::try_clone) or from a message does not unlink the name.
///
/// In a message it is sent as a descriptor, so the receiver gets the memory even if the name is
/// unlinked meanwhile. Sending the creator's value by value drops it, which unlinks the name.
///
/// Creating it allocates and zeroes all of its memory, so a lack of memory is an error then and not
/// a signal later.
///
/// # Python
///
/// Python's resource tracker treats every process that opens shared memory as its owner: when a
/// Python process that opened your memory ends, its tracker unlinks the name and reports a leak.
/// Since Python 3.13, `SharedMemory(name, track=False)` avoids that. Before, call
/// `resource_tracker.unregister(memory._name, "shared_memory")` after opening. Memory that Python
/// creates is unlinked by Python's tracker, or by its `unlink()`.
///
/// # Process death
///
/// If the creator is killed, or ends without dropping its value, the name remains. When a process
/// of the same user first creates or opens named memory, or calls [`sweep`](Self::sweep), this
/// library removes the name if no process has the memory open. Memory that was kept stays until it
/// is unlinked or the machine restarts. A process that is killed in [`write_at`](Self::write_at)
/// leaves some of the bytes written.
///
/// # Examples
///
/// ```
/// use mp_shm::SharedMemory;
///
/// let memory = SharedMemory::create(None, 4096)?;
/// memory.write_at(0, b"hello")?;
///
/// // Elsewhere; in Python, `SharedMemory(name).buf[:5]`.
/// let opened = SharedMemory::open(memory.name())?;
/// let mut text = [0; 5];
/// opened.read_at(0, &mut text)?;
/// assert_eq!(&text, b"hello");
///
/// drop(memory);
/// assert!(SharedMemory::open(opened.name()).is_err());
/// # Ok::<(), mp_shm::SharedMemoryError>(())
/// ```
pub struct SharedMemory {
    name: Name,
    file: File,
    mapping: MmapRaw,
    /// Only in the creator's value, until it is kept.
    ownership: Option<Ownership>,
}

impl SharedMemory {
    /// Creates `size` bytes of zeroed shared memory. `None` chooses a random name; a given name
    /// must not be in use.
    ///
    /// A name has at most 254 bytes, without NULs and slashes; a leading slash is allowed and
    /// ignored. The memory appears under its name in one step, in its full size. The name of memory
    /// whose creator is dead and that no process uses counts as free.
    ///
    /// # Errors
    ///
    /// - [`InvalidName`](Error::InvalidName); [`InvalidSize`](Error::InvalidSize), for zero bytes
    ///   and for more than `isize::MAX`;
    /// - [`Exists`](Error::Exists);
    /// - [`NoRoom`](Error::NoRoom) if `/dev/shm` has no room for it, before any memory is
    ///   allocated. If the machine has less memory than `/dev/shm` may use, the OOM killer may end
    ///   a process instead;
    /// - [`Io`](Error::Io): there is no `/dev/shm`, or too many files are open.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_shm::{SharedMemory, SharedMemoryError};
    ///
    /// let name = format!("table-{}", std::process::id());
    /// let table = SharedMemory::create(&*name, 1 << 20)?;
    /// assert_eq!((table.name(), table.size()), (&*name, 1 << 20));
    /// assert!(matches!(SharedMemory::create(&*name, 1), Err(SharedMemoryError::Exists { .. })));
    /// # Ok::<(), SharedMemoryError>(())
    /// ```
    pub fn create<'a>(name: impl Into<Option<&'a str>>, size: usize) -> Result<Self, Error> {
        Self::create_filled(name.into(), size, |_| Ok(()))
    }

    /// Creates memory that `fill` writes before it gets its name.
    pub(super) fn create_filled(
        name: Option<&str>,
        size: usize,
        fill: impl Fn(&File) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let name = name.map(checked).transpose()?;
        if size == 0 || isize::try_from(size).is_err() {
            return Err(Error::InvalidSize { size });
        }
        sweep::sweep_once();
        let Created { file, name, ownership } = creation::create(name.as_ref(), size, fill)?;
        match named::map(&file, size) {
            Ok(mapping) => Ok(Self { name, file, mapping, ownership: Some(ownership) }),
            Err(error) => {
                let failed = Error::no_room("map", name.as_str(), size)(error);
                let _ = remove(&file, &name, &ownership);
                Err(failed)
            }
        }
    }

    /// Opens the shared memory of that name, no matter which program created it.
    ///
    /// # Errors
    ///
    /// - [`InvalidName`](Error::InvalidName), [`NotFound`](Error::NotFound);
    /// - [`NotSharedMemory`](Error::NotSharedMemory): it is something else, or has no bytes yet;
    /// - [`NoRoom`](Error::NoRoom): this process has not enough address space;
    /// - [`Io`](Error::Io): it belongs to another user, or too many files are open.
    pub fn open(name: &str) -> Result<Self, Error> {
        let name = checked(name)?;
        sweep::sweep_once();
        let file = named::open_existing(name.as_bytes()).map_err(|error| refused(&name, error))?;
        if sweep::is_swept(&file).map_err(Error::io("open", name.as_str()))? {
            return Err(Error::NotFound { name: name.as_str().to_owned() });
        }
        Self::of_file(name, file)
    }

    /// Makes a value that unlinks nothing, from a file that was just opened or received.
    pub(super) fn of_file(name: Name, file: File) -> Result<Self, Error> {
        let facts = named::facts(&file).map_err(Error::io("open", name.as_str()))?;
        let not_memory = |reason| Error::NotSharedMemory { name: name.as_str().to_owned(), reason };
        if !facts.is_regular {
            return Err(not_memory("it is no regular file"));
        }
        if facts.size == 0 {
            return Err(not_memory("it is empty"));
        }
        let size = usize::try_from(facts.size).ok().filter(|size| isize::try_from(*size).is_ok());
        let size = size.ok_or_else(|| not_memory("it is larger than the address space"))?;
        let mapping = named::map(&file, size).map_err(Error::no_room("map", name.as_str(), size))?;
        Ok(Self { name, file, mapping, ownership: None })
    }

    /// Opens the same memory again, by the descriptor. Dropping the new value does not unlink the
    /// name.
    ///
    /// # Errors
    ///
    /// [`NoRoom`](Error::NoRoom) and [`Io`](Error::Io), as for [`open`](Self::open);
    /// [`NotSharedMemory`](Error::NotSharedMemory) if another process has shortened it to nothing.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(Error::io("open", self.name()))?;
        Self::of_file(self.name.clone(), file)
    }

    /// Returns the name without a leading slash, as in Python. It may have been unlinked meanwhile.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the size in bytes, as given when the memory was created.
    pub fn size(&self) -> usize {
        self.mapping.len()
    }

    /// Fills `into` with the bytes of the memory from `offset` on.
    ///
    /// If another process writes meanwhile, the copy may contain a part of that.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](Error::OutOfBounds). [`Shortened`](Error::Shortened), or [`Io`](Error::Io)
    /// if the operating system fails: a part of `into` is filled then.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        self.check(offset, into.len())?;
        let read = named::read_at(&self.file, into, offset as u64).map_err(Error::io("read", self.name()))?;
        if read == into.len() { Ok(()) } else { Err(self.shortened(offset + read)) }
    }

    /// Copies `bytes` into the memory from `offset` on.
    ///
    /// # Errors
    ///
    /// - [`OutOfBounds`](Error::OutOfBounds), [`Shortened`](Error::Shortened): nothing was written;
    /// - [`NoRoom`](Error::NoRoom): another program created the memory without allocating it, and
    ///   there is none left, or `RLIMIT_FSIZE` is exceeded; [`Io`](Error::Io): the operating system
    ///   fails. In both cases some of the bytes may have been written.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.write_parts(&[(offset, bytes)])
    }

    /// Checks several parts together, and then writes one after another.
    pub(super) fn write_parts(&self, parts: &[(usize, &[u8])]) -> Result<(), Error> {
        let (mut end, mut length) = (0, 0);
        for (offset, bytes) in parts {
            self.check(*offset, bytes.len())?;
            end = end.max(offset + bytes.len());
            length += bytes.len();
        }
        // Otherwise the write would lengthen the file again.
        let facts = named::facts(&self.file).map_err(Error::io("write", self.name()))?;
        if facts.size < end as u64 {
            return Err(self.shortened(facts.size as usize));
        }
        let written = named::write_parts(&self.file, parts, end as u64);
        written.map_err(Error::no_room("write", self.name(), length))
    }

    fn check(&self, offset: usize, length: usize) -> Result<(), Error> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(Error::OutOfBounds { offset, length, size: self.size() }),
        }
    }

    fn shortened(&self, size: usize) -> Error {
        Error::Shortened { name: self.name().to_owned(), size }
    }

    /// Removes the name. Processes that have the memory open can still use it, but no process can
    /// open it.
    ///
    /// Any process that opened it can do this. The memory stays until its creator and all its users
    /// have ended.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Error::NotFound) if the name was removed, or refers to other memory by now,
    /// which is not changed; [`Io`](Error::Io).
    pub fn unlink(&self) -> Result<(), Error> {
        let unlinked = match &self.ownership {
            Some(ownership) if ownership.is_here() => remove(&self.file, &self.name, ownership),
            _ => remove_name(&self.file, &self.name),
        };
        match unlinked.map_err(Error::io("unlink", self.name()))? {
            true => Ok(()),
            false => Err(Error::NotFound { name: self.name().to_owned() }),
        }
    }

    /// Keeps the memory under its name when this value is dropped and when this process ends, for
    /// whatever reason.
    ///
    /// It has an effect only on the creator's value. After that, a program has to call
    /// [`unlink`](Self::unlink) to free the memory.
    ///
    /// # Errors
    ///
    /// [`Io`](Error::Io). Nothing has changed then.
    pub fn keep(&mut self) -> Result<(), Error> {
        if let Some(ownership) = self.ownership.take_if(|ownership| ownership.is_here()) {
            let kept = named::facts(&self.file).and_then(|facts| ownership.companion().remove(facts.identity));
            if let Err(error) = kept {
                self.ownership = Some(ownership);
                return Err(Error::io("keep", self.name())(error));
            }
        }
        Ok(())
    }

    /// Removes the memory of killed creators, and returns how many memories that were.
    ///
    /// A process does this by itself when it first creates or opens named memory. A program that
    /// runs for a long time and whose children are killed can call it from time to time. It removes
    /// only memory that this library created for the same user, that was not kept, and that no
    /// process of any language and no message in flight has open. If another process sweeps at the
    /// same time, some memory may remain until the next time. If the system has no file leases,
    /// nothing is removed.
    ///
    /// A process that opens such memory at that moment waits for microseconds until its sweep ends.
    /// The kernel then sends this process a SIGURG, which is ignored unless the program handles it.
    ///
    /// # Errors
    ///
    /// Fails if `/dev/shm` cannot be listed.
    pub fn sweep() -> io::Result<usize> {
        sweep::sweep()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn mapping(&self) -> &MmapRaw {
        &self.mapping
    }
}

/// Removes the name and then the mark. In this order, because a mark without a name is swept, and a
/// name without a mark would stay.
fn remove(file: &File, name: &Name, ownership: &Ownership) -> io::Result<bool> {
    let identity = named::facts(file)?.identity;
    let removed = named::unlink_if(name.as_bytes(), identity)?;
    ownership.companion().remove(identity)?;
    Ok(removed)
}

fn remove_name(file: &File, name: &Name) -> io::Result<bool> {
    named::unlink_if(name.as_bytes(), named::facts(file)?.identity)
}

pub(super) fn checked(name: &str) -> Result<Name, Error> {
    Name::new(name).map_err(|source| Error::InvalidName { name: name.to_owned(), source })
}

/// Converts an error of opening a name.
fn refused(name: &Name, error: io::Error) -> Error {
    let name = name.as_str();
    let not_memory = |reason| Error::NotSharedMemory { name: name.to_owned(), reason };
    match error.raw_os_error() {
        Some(libc::ENOENT) => Error::NotFound { name: name.to_owned() },
        Some(libc::ELOOP) => not_memory("it is a symbolic link"),
        Some(libc::EISDIR | libc::ENXIO | libc::ENODEV) => not_memory("it is no regular file"),
        _ => Error::io("open", name)(error),
    }
}

impl AsFd for SharedMemory {
    /// The descriptor of the file, for operations that this type lacks. Shortening the file can
    /// raise SIGBUS in other processes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Some(ownership) = self.ownership.as_ref().filter(|ownership| ownership.is_here()) {
            // If this fails, a sweep removes the memory after this process has ended.
            let _ = remove(&self.file, &self.name, ownership);
        }
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("name", &self.name()).field("size", &self.size()).finish_non_exhaustive()
    }
}
