//! Frozen memory in arguments, which goes to a rank once.
//!
//! Rank 0 has the [`Originals`], and an agent the [`Copies`] that it was sent. A copy is a memory
//! file with the same content and the same seals, so a worker cannot tell it from the original.
//! Memory is recognised by its inode. Rank 0 keeps a descriptor, so that no other file gets the
//! inode while it is known.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use crate::port::Frame;

/// How many are known at once. Each one costs a descriptor.
const MOST: usize = 64;

fn seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK
}

/// Tells whether no process can ever change this file.
pub(crate) fn is_frozen(file: BorrowedFd<'_>) -> bool {
    fcntl_get_seals(file).is_ok_and(|present| present.contains(seals()))
}

/// The frozen memory that ranks were sent.
pub(crate) struct Originals {
    known: HashMap<(u64, u64), Original>,
    /// How many bytes all of it may have.
    limit: u64,
    /// How many times memory was looked up or sent.
    uses: u64,
}

struct Original {
    number: u64,
    length: u64,
    /// The ranks that have it.
    ranks: HashSet<usize>,
    used: u64,
    _file: OwnedFd,
}

impl Originals {
    pub(crate) fn new(limit: u64) -> Self {
        Self { known: HashMap::new(), limit, uses: 0 }
    }

    /// Returns the number of this memory, and adds the frames that the rank has to get before.
    pub(crate) fn number(
        &mut self,
        rank: usize,
        file: BorrowedFd<'_>,
        frames: &mut Vec<(usize, Frame, Vec<u8>)>,
    ) -> io::Result<u64> {
        let stat = fstat(file)?;
        let (identity, length) = ((stat.st_dev as u64, stat.st_ino as u64), stat.st_size as u64);
        self.uses += 1;
        if !self.known.contains_key(&identity) {
            self.make_room(length, frames);
            let file = file.try_clone_to_owned()?;
            let new = Original { number: self.uses, length, ranks: HashSet::new(), used: 0, _file: file };
            self.known.insert(identity, new);
        }
        let Some(original) = self.known.get_mut(&identity) else { return Err(io::ErrorKind::NotFound.into()) };
        original.used = self.uses;
        if original.ranks.insert(rank) {
            frames.push((rank, Frame::Memory(original.number), content(file, length)?));
        }
        Ok(original.number)
    }

    /// Forgets what was used least recently.
    fn make_room(&mut self, length: u64, frames: &mut Vec<(usize, Frame, Vec<u8>)>) {
        let total = |known: &HashMap<_, Original>| known.values().map(|original| original.length).sum::<u64>();
        while self.known.len() >= MOST || !self.known.is_empty() && total(&self.known) + length > self.limit {
            let oldest = self.known.iter().min_by_key(|(_, original)| original.used).map(|(identity, _)| *identity);
            let Some(original) = oldest.and_then(|oldest| self.known.remove(&oldest)) else { return };
            frames.extend(original.ranks.iter().map(|rank| (*rank, Frame::Forget(original.number), Vec::new())));
        }
    }
}

/// Reads a file, whatever its position is.
fn content(file: BorrowedFd<'_>, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize)?;
    // Opened again, so that its position is its own.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The frozen memory that this rank was sent.
#[derive(Default)]
pub(crate) struct Copies(HashMap<u64, OwnedFd>);

impl Copies {
    pub(crate) fn add(&mut self, number: u64, content: &[u8]) -> Result<(), String> {
        let file = copy(content).map_err(|error| format!("{} bytes of frozen memory: {error}", content.len()))?;
        self.0.insert(number, file);
        Ok(())
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.0.remove(&number);
    }

    /// Descriptors of the memory of these numbers.
    pub(crate) fn find(&self, numbers: &[u64]) -> Result<Vec<OwnedFd>, String> {
        let find = |number: &u64| {
            let file =
                self.0.get(number).ok_or_else(|| format!("rank 0 names memory {number}, which it did not send"))?;
            file.try_clone().map_err(|error| format!("a descriptor of frozen memory: {error}"))
        };
        numbers.iter().map(find).collect()
    }
}

/// Makes frozen memory of this content.
fn copy(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("mp-shm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(content)?;
    file.rewind()?;
    fcntl_add_seals(&file, seals() | SealFlags::SEAL)?;
    Ok(file.into())
}
