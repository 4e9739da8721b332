//! Buffers inside messages.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::Buffer;
use super::memory::Memory;
use crate::sys::memfd;
use crate::{AnyBits, AttachError, part};

impl<T> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.was_encoded.store(true, Ordering::Relaxed);
        let file = self.memory.for_others().map_err(|error| {
            ser::Error::custom(format_args!("the buffer could not be opened for another process: {error}"))
        })?;
        part::serialize(&file.into(), &self.range, serializer)
    }
}

impl<'de, T: AnyBits + Copy> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (received, range, frozen) = part::deserialize::<T, D>(deserializer)?;
        if frozen {
            return Err(AttachError::Frozen.explained());
        }
        let failed = |error| AttachError::Io(error).explained();
        // Copies of the message share its description. The locks need a description of their own.
        let file = memfd::reopen(received.as_fd()).map_err(failed)?;
        let memory = Memory::map(received.with_file(file), range.clone()).map_err(failed)?;
        let is_held = memory.try_own(&range).map_err(failed)?;
        Ok(Self::new(Arc::new(memory), range, is_held))
    }
}
