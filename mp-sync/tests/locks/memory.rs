//! Shared memory with one value in it, as a value that goes to other processes.

use std::fs::File;
use std::marker::PhantomData;
use std::ops::Deref;

use memmap2::MmapRaw;
use mp_sync::SharedRegion;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `T` in a memfd: sent to another process, it is mapped there too.
pub(crate) struct InShared<T> {
    file: File,
    region: SharedRegion<MmapRaw>,
    value: PhantomData<T>,
}

#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] File);

impl<T: Sync> InShared<T> {
    pub(crate) fn new(value: T) -> Self {
        let file = File::from(memfd_create("mp-sync-test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(size_of::<T>() as u64).unwrap();
        let shared = Self::map(file);
        // SAFETY: nobody else has the memory yet, and it is large enough and aligned, as a page is.
        unsafe { shared.place().write(value) };
        shared
    }

    fn map(file: File) -> Self {
        let mapping = MmapRaw::map_raw(&file).unwrap();
        let (start, length) = (mapping.as_mut_ptr(), mapping.len());
        // SAFETY: the mapping lasts as long as the `MmapRaw`, and references to the value not
        // longer than this.
        let region = unsafe { SharedRegion::new(mapping, start, length) }.unwrap();
        Self { file, region, value: PhantomData }
    }

    /// Maps it once more, at another address.
    pub(crate) fn again(&self) -> Self {
        Self::map(self.file.try_clone().unwrap())
    }

    pub(crate) fn place(&self) -> *mut T {
        self.region.at(0).unwrap()
    }
}

impl<T: Sync> Deref for InShared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has written one, which all processes share by its own rules: it is `Sync`.
        unsafe { &*self.place() }
    }
}

impl<T> Serialize for InShared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Handle(self.file.try_clone().unwrap()).serialize(serializer)
    }
}

impl<'de, T: Sync> Deserialize<'de> for InShared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Handle::deserialize(deserializer).map(|handle| Self::map(handle.0))
    }
}

const _: fn() = || {
    fn is_value<V: Serialize + DeserializeOwned>() {}
    is_value::<InShared<u32>>();
};
