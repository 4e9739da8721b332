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

/// Memory with a name, for programs that have nothing else in common: Python's
/// `multiprocessing.shared_memory.SharedMemory`.
///
/// It is a POSIX shared memory object, a file in `/dev/shm`, so a program in Rust, Python or C
/// opens what another has created. Only the same user may (mode 0600, as CPython has it). Its bytes
/// are read and written by [`read_at`](Self::read_at) and [`write_at`](Self::write_at), which are
/// safe, one system call or three each; or in place, through [`as_slice`](Self::as_slice) and
/// [`as_ptr`](Self::as_ptr), which are not, as others write when they like. Between processes of
/// this library, the types without a name have safe access in place.
///
/// The name exists as long as the **creator's** handle: dropping that unlinks it, unless it was
/// [kept](Self::keep). Whoever has opened it by then goes on using the memory, and the kernel frees
/// it with the last of them. The handles that [`open`](Self::open) and
/// [`try_clone`](Self::try_clone) return, and those that arrive in messages, unlink nothing when
/// they are dropped.
///
/// Inside a value it travels as a descriptor: the receiver has the memory even if the name is gone
/// meanwhile. Sending the creator's handle away by value drops it here, which unlinks the name.
///
/// All its memory is allocated when it is created, so that a lack of it is an error then and not a
/// signal later. It is zeroed.
///
/// # Python
///
/// Python's resource tracker believes that whoever opens shared memory owns it: when a Python
/// process that has opened yours ends, its tracker unlinks the name, and says that something was
/// "leaked". From Python 3.13 on `SharedMemory(name, track=False)` avoids that; before, do so after
/// opening: `resource_tracker.unregister(memory._name, "shared_memory")`. The other way round,
/// memory that Python creates ends with its tracker, or with its `unlink()`.
///
/// # Process death
///
/// A creator that is killed, or ends without dropping its handle, leaves the name. This library
/// sweeps it away, in whichever process of the same user next creates or opens named memory for the
/// first time, or calls [`sweep`](Self::sweep), as soon as nobody has it open any more. What was
/// kept stays until it is unlinked or the machine restarts. Whoever is killed in
/// [`write_at`](Self::write_at) leaves some of the bytes written.
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
    /// Of the creator's handle, until it is kept.
    ownership: Option<Ownership>,
}

impl SharedMemory {
    /// Creates `size` bytes of shared memory, zeroed, under a name that nobody has, or under one
    /// that is made up: `None`.
    ///
    /// A name has 254 bytes at most, none of them a NUL or a slash, except for a leading slash,
    /// which may be there and counts for nothing. The memory appears under its name in one step, at
    /// its full size. If the name is that of a dead creator's memory that nobody uses, it is free.
    ///
    /// # Errors
    ///
    /// - [`InvalidName`](Error::InvalidName), [`InvalidSize`](Error::InvalidSize): for no bytes,
    ///   and for more than `isize::MAX`;
    /// - [`Exists`](Error::Exists);
    /// - [`NoRoom`](Error::NoRoom), before anything is used up. The machine's memory can be less
    ///   than `/dev/shm` is allowed to take; then it is up to the kernel to find some;
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

    /// The same, with memory that is filled before it has its name.
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

    /// Opens the shared memory of that name, whoever has created it.
    ///
    /// # Errors
    ///
    /// - [`InvalidName`](Error::InvalidName), [`NotFound`](Error::NotFound);
    /// - [`NotSharedMemory`](Error::NotSharedMemory): it is something else, or has no bytes (yet);
    /// - [`NoRoom`](Error::NoRoom): this process has not so many addresses left;
    /// - [`Io`](Error::Io): it is another user's, or too many files are open.
    pub fn open(name: &str) -> Result<Self, Error> {
        let name = checked(name)?;
        sweep::sweep_once();
        let file = named::open_existing(name.as_bytes()).map_err(|error| refused(&name, error))?;
        if sweep::is_swept(&file).map_err(Error::io("open", name.as_str()))? {
            return Err(Error::NotFound { name: name.as_str().to_owned() });
        }
        Self::of_file(name, file)
    }

    /// A handle that unlinks nothing, of a file that was just opened or received.
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

    /// Opens the same memory once more, by the descriptor. The new handle unlinks nothing when it
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`NoRoom`](Error::NoRoom) and [`Io`](Error::Io), as for [`open`](Self::open);
    /// [`NotSharedMemory`](Error::NotSharedMemory) if another process has shortened it to nothing.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(Error::io("open", self.name()))?;
        Self::of_file(self.name.clone(), file)
    }

    /// Returns the name, without a leading slash, as Python has it. The memory may have lost it
    /// since.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns how many bytes there are: as many as were asked for when it was created.
    pub fn size(&self) -> usize {
        self.mapping.len()
    }

    /// Copies bytes from `offset` on out of the memory, as many as `into` takes.
    ///
    /// What another process writes meanwhile can be there in part.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](Error::OutOfBounds); [`Shortened`](Error::Shortened), and [`Io`](Error::Io)
    /// if the system fails: then `into` is filled in part.
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
    /// - [`NoRoom`](Error::NoRoom): a program that had created it without allocating it would have
    ///   got SIGBUS here; or `RLIMIT_FSIZE` is in the way. [`Io`](Error::Io): the system fails. In
    ///   both cases some of the bytes may have been written.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.write_parts(&[(offset, bytes)])
    }

    /// The same for several parts, which are checked together, and then written one after another.
    pub(super) fn write_parts(&self, parts: &[(usize, &[u8])]) -> Result<(), Error> {
        let (mut end, mut length) = (0, 0);
        for (offset, bytes) in parts {
            self.check(*offset, bytes.len())?;
            end = end.max(offset + bytes.len());
            length += bytes.len();
        }
        // The system would lengthen the file again.
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

    /// Removes the name. Whoever has the memory open goes on using it; nobody can open it any more.
    ///
    /// Anybody who has opened it may. If the creator lives, or was killed while others use it, the
    /// memory stays until it and they have ended.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Error::NotFound) if the name is gone, or leads to other memory by now, which
    /// stays as it is; [`Io`](Error::Io).
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

    /// Has the memory stay under its name when this handle is dropped and when this process ends,
    /// however that is.
    ///
    /// It is for the creator's handle; others unlink nothing anyway. From then on somebody has to
    /// call [`unlink`](Self::unlink).
    ///
    /// # Errors
    ///
    /// [`Io`](Error::Io): then it is as before.
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

    /// Removes what creators that were killed have left, and returns how many pieces of memory that
    /// were.
    ///
    /// It happens by itself the first time that a process creates or opens named memory. A program
    /// that runs for long and whose children are killed can call it from time to time. It removes
    /// only what was created by this library, by the same user, was not kept, and is open nowhere:
    /// not in a process of any language, not in a message on its way. While another process sweeps,
    /// or in doubt, it leaves things for the next time; where the system has no leases, for ever.
    ///
    /// Whoever opens such memory just then waits for the sweep of it to end, for microseconds; it
    /// is the kernel that tells this process, by SIGURG, which is ignored unless the program
    /// handles it.
    ///
    /// # Errors
    ///
    /// If `/dev/shm` cannot be listed.
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

/// Removes the name and then the mark, in this order: a mark without a name is swept, a name
/// without a mark would be kept.
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

/// Why a name cannot be opened.
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
    /// The descriptor of the file, for what this type lacks. Whoever shortens the file makes others
    /// die of SIGBUS.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Some(ownership) = self.ownership.as_ref().filter(|ownership| ownership.is_here()) {
            // What cannot be removed now is swept when this process has ended.
            let _ = remove(&self.file, &self.name, ownership);
        }
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("name", &self.name()).field("size", &self.size()).finish_non_exhaustive()
    }
}
