//! What keeps a side of a queue alive.

use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserializer, Serializer, de};

use crate::memory::{Memory, Purpose};
use crate::role::{Role, sides};

/// A handle: while it exists, in this process or in a message, its sides do.
pub(crate) struct Holder<R: Role> {
    memory: Arc<Memory>,
    role: PhantomData<R>,
}

impl<R: Role> Holder<R> {
    pub(crate) fn new(memory: Arc<Memory>) -> io::Result<Self> {
        for side in sides::<R>() {
            memory.enter(side)?;
        }
        Ok(Self { memory, role: PhantomData })
    }

    /// Another handle, of a role that has no side that this one has not.
    pub(crate) fn with_role<S: Role>(&self) -> Holder<S> {
        // They are not the first handles of their sides, so nothing can fail.
        sides::<S>().for_each(|side| self.memory.enter(side).unwrap_or_default());
        Holder { memory: Arc::clone(&self.memory), role: PhantomData }
    }

    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(&sides::<R>().collect::<Vec<_>>(), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        allowed: &[Purpose],
        deserializer: D,
    ) -> Result<Self, D::Error> {
        // The memory is a member of the groups already, so there was no moment without one.
        Self::new(Arc::new(Memory::deserialize(allowed, sides::<R>(), deserializer)?)).map_err(de::Error::custom)
    }
}

impl<R: Role> Deref for Holder<R> {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl<R: Role> Drop for Holder<R> {
    fn drop(&mut self) {
        sides::<R>().for_each(|side| self.memory.leave(side));
    }
}
