//! The locks that are measured, in shared memory, and those of the C library beside them.

#![allow(unsafe_code, reason = "the C library's locks, and values in mapped memory")]

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;

use mp_sync::{
    Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore, SharedRegion,
};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::partner::Handle;

/// What is measured, in memory that all processes have mapped.
pub struct Locks {
    pub mutex: Mutex<u64>,
    pub reentrant: ReentrantMutex<u64>,
    pub condvar: Condvar,
    pub rwlock: RwLock<u64>,
    pub once: OnceLock<u64>,
    pub permits: RobustSemaphore,
    pub semaphore: Semaphore,
    pub event: Event,
    pub answer: Event,
    pub barrier: Barrier,
    pub posix: Posix,
    pub turn: AtomicU32,
    pub pthread: Pthread,
    pub robust: Pthread,
}

/// The same in another process.
pub struct Shared {
    file: OwnedFd,
    region: SharedRegion<memmap2::MmapRaw>,
}

impl Shared {
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("locks", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size_of::<Locks>() as u64)?;
        let shared = Self::map(file)?;
        let locks = Locks {
            mutex: Mutex::new(0),
            reentrant: ReentrantMutex::new(0),
            condvar: Condvar::new(),
            rwlock: RwLock::new(0),
            once: OnceLock::new(),
            permits: RobustSemaphore::new(1),
            semaphore: Semaphore::new(1),
            event: Event::new(),
            answer: Event::new(),
            barrier: Barrier::new(1),
            posix: Posix::new(),
            turn: AtomicU32::new(0),
            pthread: Pthread::default(),
            robust: Pthread::default(),
        };
        let place = shared.region.at::<Locks>(0).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: nobody else has the memory yet.
        unsafe { place.write(locks) };
        shared.posix.init();
        shared.pthread.init(false);
        shared.robust.init(true);
        Ok(shared)
    }

    /// For another process.
    pub fn again(&self) -> io::Result<Self> {
        Self::map(self.file.try_clone()?)
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let mapping = memmap2::MmapRaw::map_raw(&file)?;
        let (start, length) = (mapping.as_mut_ptr(), mapping.len());
        // SAFETY: the mapping lasts as long as the `MmapRaw`.
        let region = unsafe { SharedRegion::new(mapping, start, length)? };
        Ok(Self { file: file.into(), region })
    }
}

impl Deref for Shared {
    type Target = Locks;

    fn deref(&self) -> &Locks {
        // SAFETY: `new` checked the place, and has put them there.
        unsafe { &*self.region.as_ptr().cast::<Locks>() }
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Handle(self.file.try_clone().map_err(serde::ser::Error::custom)?).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::map(Handle::deserialize(deserializer)?.0).map_err(serde::de::Error::custom)
    }
}

/// Locks of this process for as long as it lives.
pub fn locks() -> io::Result<&'static Shared> {
    Ok(Box::leak(Box::new(Shared::new()?)))
}

/// A mutex of the C library.
pub struct Pthread(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a mutex is made for that.
unsafe impl Sync for Pthread {}

impl Default for Pthread {
    fn default() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

impl Pthread {
    pub fn init(&self, robust: bool) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: a place for them.
        unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
        // SAFETY: they have been initialised.
        unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) };
        if robust {
            // SAFETY: they have been initialised.
            unsafe { libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) };
        }
        // SAFETY: a place for it, and attributes.
        unsafe { libc::pthread_mutex_init(self.0.get().cast(), attributes.as_ptr()) };
    }

    #[inline]
    pub fn lock(&self) {
        // SAFETY: it has been initialised.
        unsafe { libc::pthread_mutex_lock(self.0.get().cast()) };
    }

    #[inline]
    pub fn unlock(&self) {
        // SAFETY: it has been initialised, and this thread has it.
        unsafe { libc::pthread_mutex_unlock(self.0.get().cast()) };
    }
}

/// A semaphore of the C library.
pub struct Posix(UnsafeCell<MaybeUninit<libc::sem_t>>);

// SAFETY: a semaphore is made for that.
unsafe impl Sync for Posix {}

impl Posix {
    const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    fn init(&self) {
        // SAFETY: a place for it; it is shared between processes, and there is one permit.
        unsafe { libc::sem_init(self.0.get().cast(), 1, 1) };
    }

    #[inline]
    pub fn acquire(&self) {
        // SAFETY: it has been initialised.
        unsafe { libc::sem_wait(self.0.get().cast()) };
    }

    #[inline]
    pub fn release(&self) {
        // SAFETY: it has been initialised.
        unsafe { libc::sem_post(self.0.get().cast()) };
    }
}
