//! Buffers inside messages.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::memory::Memory;
use super::{AWAITED, Buffer, BufferError, HELD, SENT};
use crate::sys::memfd;
use crate::{AttachError, ShmSafe, part};

impl<T> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // One that has just been received may have to be waited for.
        self.wait(Self::PATIENCE).map_err(ser::Error::custom)?;
        if self.state.compare_exchange(HELD, SENT, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Err(ser::Error::custom(BufferError::Sent));
        }
        let state = Arc::clone(&self.state);
        mp_core::fd::if_undelivered(move || {
            // The lock was never given up, so nobody has had the values meanwhile.
            let _ = state.compare_exchange(SENT, HELD, Ordering::AcqRel, Ordering::Relaxed);
        });
        let file = self.memory.for_others().map_err(|error| {
            ser::Error::custom(format_args!("the buffer could not be opened for another process: {error}"))
        })?;
        part::serialize(file.as_fd(), &self.range, serializer)
    }
}

impl<'de, T: ShmSafe + Copy> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let () = Self::PLAIN;
        let (received, range, frozen) = part::deserialize::<T, D>(deserializer)?;
        if frozen {
            return Err(AttachError::Frozen.explained());
        }
        let failed = |error| AttachError::Io(error).explained();
        // Copies of the message share the description that came with it; locks have to be this one's own.
        let file = memfd::reopen(received.as_fd()).map_err(failed)?;
        let memory = Memory::map(received.with_file(file), range.clone()).map_err(failed)?;
        let state = if memory.try_own(&range).map_err(failed)? { HELD } else { AWAITED };
        Ok(Self::new(Arc::new(memory), range, state))
    }
}
