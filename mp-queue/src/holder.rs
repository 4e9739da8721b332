//! Handles of one side of a queue.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserializer, Serializer, de};

use crate::memory::{Memory, Side};

/// A handle of one side: while it exists, in this process or in a message, so does the side.
pub(crate) struct Holder {
    memory: Arc<Memory>,
    side: Side,
}

impl Holder {
    pub(crate) fn new(memory: Arc<Memory>, side: Side) -> io::Result<Self> {
        memory.enter(side)?;
        Ok(Self { memory, side })
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(&[self.side], serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(side: Side, deserializer: D) -> Result<Self, D::Error> {
        let memory = Arc::new(Memory::deserialize(deserializer)?);
        // The descriptor is a member already, so that there was no moment without one.
        Self::new(memory, side).map_err(de::Error::custom)
    }
}

impl Deref for Holder {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl Clone for Holder {
    fn clone(&self) -> Self {
        // It is not the first one, so nothing can fail.
        let _ = self.memory.enter(self.side);
        Self { memory: Arc::clone(&self.memory), side: self.side }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.memory.leave(self.side);
    }
}
