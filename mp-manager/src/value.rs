//! Values that the server keeps without knowing their types, and what keeps an object alive.
//!
//! A value is its bytes and its descriptors. A descriptor is one of three things:
//!
//! | in the message | in the server |
//! |---|---|
//! | the lease of an object of this server | a [`Reference`]: no descriptor |
//! | the door of this server | nothing: the server has its door already |
//! | anything else | the descriptor |
//!
//! When the value leaves the server again, a reference becomes a new lease of the object, and the
//! door a duplicate of the server's own. So a proxy inside a value needs no descriptor of the
//! server's, and an object does not hold the lease of an object by way of the server.
//!
//! # What keeps an object alive
//!
//! A lease is the write end of a pipe. The server has only the read end, which hangs up when the
//! last write end is closed: in a proxy, in a process that was killed, or in a message that nobody
//! will receive. The server makes further leases by opening the pipe again through its read end.
//!
//! 1. An object goes when its pipe has hung up and no [`Reference`] to it exists.
//! 2. The hang-up is reported once. Making a lease arms the report again, after the lease exists.
//! 3. The last reference that is dropped reports the object as well.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mp_core::DecodeError;
use mp_core::raw::{Message, SharedFd, above_standard_streams};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::CallError;
use crate::mutex::lock;

/// An encoded value. Cloning it copies nothing.
#[derive(Clone, Debug)]
pub(crate) struct Value(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Has its descriptors until the server adopts the value.
    message: Message,
    held: Vec<Held>,
}

#[derive(Debug)]
enum Held {
    Door(SharedFd),
    Lease(Reference),
    Other(SharedFd),
}

impl Value {
    pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, CallError> {
        Message::encode(value).map(Self::new).map_err(CallError::Encode)
    }

    pub(crate) fn new(message: Message) -> Self {
        Self(Arc::new(Inner { message, held: Vec::new() }))
    }

    /// Returns the message, for a value that this process received or that it keeps.
    pub(crate) fn into_message(self) -> io::Result<Message> {
        match Arc::try_unwrap(self.0) {
            Ok(inner) if inner.held.is_empty() => Ok(inner.message),
            Ok(inner) => inner.to_message(),
            Err(shared) => shared.to_message(),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let message = self.into_message().map_err(de::Error::custom);
        message.and_then(Message::decode).map_err(CallError::Decode)
    }

    /// Tells whether both values have the same bytes and refer to the same objects.
    pub(crate) fn is(&self, other: &Self) -> Result<bool, DecodeError> {
        let (mine, theirs) = (&self.0, &other.0);
        let same_objects = mine.held.len() == theirs.held.len()
            && mine.held.iter().zip(&theirs.held).all(|pair| match pair {
                (Held::Lease(mine), Held::Lease(theirs)) => mine.0.id == theirs.0.id,
                (Held::Door(_), Held::Door(_)) => true,
                // Two descriptors are never known to be the same thing.
                _ => false,
            });
        Ok(same_objects && mine.message.has_bytes_of(&theirs.message)?)
    }

    /// Returns how many bytes the value has.
    pub(crate) fn length(&self) -> u64 {
        self.0.message.encoded_len()
    }

    /// Tells whether it is short and has no descriptors.
    pub(crate) fn is_small(&self) -> bool {
        self.length() <= 1024 && !self.has_descriptors()
    }

    pub(crate) fn has_descriptors(&self) -> bool {
        !self.0.held.is_empty() || self.0.message.has_descriptors()
    }

    /// Makes the value one that the server can keep.
    pub(crate) fn adopt(&mut self, known: &Known) -> io::Result<()> {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return Ok(()) };
        if !inner.message.has_descriptors() {
            return Ok(());
        }
        inner.held =
            inner.message.take_descriptors()?.into_iter().map(|fd| known.hold(fd)).collect::<io::Result<_>>()?;
        Ok(())
    }
}

impl Inner {
    fn to_message(&self) -> io::Result<Message> {
        let descriptors = self.held.iter().map(Held::descriptor).collect::<io::Result<_>>()?;
        self.message.copy_with(descriptors)
    }
}

impl Held {
    fn descriptor(&self) -> io::Result<SharedFd> {
        match self {
            Self::Lease(reference) => reference.0.lease(),
            Self::Door(fd) | Self::Other(fd) => Ok(fd.clone()),
        }
    }
}

thread_local! {
    /// Whether this thread encodes and decodes what leaves the machine.
    static LEAVES: Cell<bool> = const { Cell::new(false) };
}

/// Encodes or decodes something in which values are bytes alone. Descriptors are an error then.
pub(crate) fn leaving<R>(f: impl FnOnce() -> R) -> R {
    LEAVES.set(true);
    let result = f();
    LEAVES.set(false);
    result
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if LEAVES.get() {
            if self.has_descriptors() {
                return Err(ser::Error::custom("descriptors and proxies cannot be sent to another machine"));
            }
            return serializer.serialize_bytes(&self.0.message.to_vec().map_err(ser::Error::custom)?);
        }
        match self.0.held.is_empty() {
            true => self.0.message.serialize(serializer),
            false => self.0.to_message().map_err(ser::Error::custom)?.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if LEAVES.get() {
            return Ok(Self::new(Message::from_encoded(serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec())));
        }
        Message::deserialize(deserializer).map(Self::new)
    }
}

/// An encoded key. Keys are equal if their bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Key(#[serde(with = "serde_bytes")] Vec<u8>);

/// A value with its key, which is empty in a list and in a cell.
pub(crate) type Entry = (Key, Value);

/// The longest key, in bytes.
const LONGEST_KEY: usize = 1 << 20;

impl Key {
    pub(crate) fn encode<T: Serialize + ?Sized>(key: &T) -> Result<Self, CallError> {
        let mut bytes = Vec::new();
        let error = match Message::append(key, &mut bytes, LONGEST_KEY, None) {
            Ok(None) => return Ok(Self(bytes)),
            Ok(Some(_)) => ser::Error::custom("a key holds no descriptors, and is no longer than 1 MiB"),
            Err(error) => error,
        };
        Err(CallError::Encode(error))
    }

    pub(crate) fn length(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, CallError> {
        Message::from_encoded(self.0).decode().map_err(CallError::Decode)
    }
}

/// The pipe of an object.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) id: u64,
    read: OwnedFd,
    watch: Arc<Watch>,
}

/// Where objects that may have to go are reported.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) epoll: OwnedFd,
    /// Objects to which the last reference was dropped.
    suspects: Mutex<Vec<u64>>,
}

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = above_standard_streams(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        Ok(Self { epoll, suspects: Mutex::default() })
    }

    pub(crate) fn has_suspects(&self) -> bool {
        !lock(&self.suspects).is_empty()
    }

    pub(crate) fn suspects(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.suspects))
    }

    /// Waits for events, for `pause` at most; `None` is without a limit.
    pub(crate) fn wait(&self, events: &mut Vec<epoll::Event>, pause: Option<Duration>) -> io::Result<()> {
        events.clear();
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match epoll::wait(&self.epoll, spare_capacity(events), pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Anchor {
    /// Makes the pipe of the object `id`, and its first lease.
    pub(crate) fn new(id: u64, watch: &Arc<Watch>) -> io::Result<(Arc<Self>, SharedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (read, write) = (above_standard_streams(read)?, above_standard_streams(write)?);
        epoll::add(&watch.epoll, &read, EventData::new_u64(id << 2 | LEASE), EventFlags::ONESHOT)?;
        Ok((Arc::new(Self { id, read, watch: Arc::clone(watch) }), write.into()))
    }

    /// Makes one more lease of the object.
    pub(crate) fn lease(&self) -> io::Result<SharedFd> {
        let path = format!("/proc/thread-self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.read));
        let lease = open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
        epoll::modify(&self.watch.epoll, &self.read, EventData::new_u64(self.id << 2 | LEASE), EventFlags::ONESHOT)?;
        above_standard_streams(lease).map(SharedFd::from)
    }

    /// Returns how many [`Reference`]s exist. The server's table and [`Known`] hold the anchor too.
    pub(crate) fn references(self: &Arc<Self>) -> u64 {
        (Arc::strong_count(self) as u64).saturating_sub(2)
    }

    /// Tells whether there is a lease.
    pub(crate) fn is_leased(&self) -> bool {
        let mut fds = [PollFd::new(&self.read, PollFlags::empty())];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..) if fds[0].revents().contains(PollFlags::HUP))
    }
}

/// The last two bits of the number under which the set of the server reports a pipe.
pub(crate) const LEASE: u64 = 3;

/// Keeps an object alive, in a value or under a name.
#[derive(Debug)]
pub(crate) struct Reference(Arc<Anchor>);

impl Reference {
    pub(crate) fn new(anchor: &Arc<Anchor>) -> Self {
        Self(Arc::clone(anchor))
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Whether it is the last one is found out later: two threads may drop two at once.
        lock(&self.0.watch.suspects).push(self.0.id);
    }
}

/// The descriptors by which a server knows what is its own.
#[derive(Debug)]
pub(crate) struct Known {
    door: (Inode, SharedFd),
    leases: HashMap<Inode, Arc<Anchor>>,
}

/// What two descriptors of the same pipe or socket have in common.
pub(crate) type Inode = (u64, u64);

pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<Inode> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

impl Known {
    pub(crate) fn new(door: OwnedFd) -> io::Result<Self> {
        Ok(Self { door: (inode(door.as_fd())?, door.into()), leases: HashMap::new() })
    }

    pub(crate) fn add(&mut self, anchor: &Arc<Anchor>) -> io::Result<()> {
        self.leases.insert(inode(anchor.read.as_fd())?, Arc::clone(anchor));
        Ok(())
    }

    pub(crate) fn remove(&mut self, anchor: &Anchor) {
        if let Ok(inode) = inode(anchor.read.as_fd()) {
            self.leases.remove(&inode);
        }
    }

    fn hold(&self, fd: OwnedFd) -> io::Result<Held> {
        let inode = inode(fd.as_fd())?;
        Ok(match self.leases.get(&inode) {
            Some(anchor) => Held::Lease(Reference::new(anchor)),
            None if inode == self.door.0 => Held::Door(self.door.1.clone()),
            None => Held::Other(fd.into()),
        })
    }
}
