//! A value in memory that several processes map, each where it likes.

use std::fs::File;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::Deref;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

/// The memory of a `T`, as it travels to other processes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    #[serde(with = "mp_core::fd")]
    file: File,
}

/// A `T` in it.
pub(crate) struct Placed<T> {
    file: File,
    mapping: MmapRaw,
    value: PhantomData<T>,
}

impl<T: Sync> Placed<T> {
    /// Puts a value without pointers and without a destructor there.
    pub(crate) fn new(value: T) -> Self {
        assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= 4096);
        let file = File::from(memfd_create("mp-sync-test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(size_of::<T>() as u64).unwrap();
        let placed = Self::map(file);
        // SAFETY: the mapping is as long as a `T`, begins a page, and nobody else has it yet.
        unsafe { placed.mapping.as_mut_ptr().cast::<T>().write(value) };
        placed
    }

    /// Maps what another process has made with [`new`](Self::new) for the same `T`.
    pub(crate) fn attach(memory: Memory) -> Self {
        Self::map(memory.file)
    }

    /// For another process.
    pub(crate) fn memory(&self) -> Memory {
        Memory { file: self.file.try_clone().unwrap() }
    }

    fn map(file: File) -> Self {
        let mapping = MmapOptions::new().len(size_of::<T>()).map_raw(&file).unwrap();
        Self { file, mapping, value: PhantomData }
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has written one there before anybody else had the file; it is `Sync`, shared between threads of several
        // processes, and the mapping lasts as long as `self`.
        unsafe { &*self.mapping.as_ptr().cast::<T>() }
    }
}
