//! Encoded messages on their way into the ring, or out of it.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use mp_core::EncodeError;
use mp_core::raw::{Message, decode_plain};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::GetError;
use crate::memory::Memory;

/// Some messages, in order.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// Where in `bytes` those of the parts begin that were not put or decoded.
    pub(crate) start: usize,
    pub(crate) parts: Vec<Part>,
}

// Two words, which the compiler passes in registers. What is copied through memory in other pieces
// than it was written in makes the processor wait.
pub(crate) enum Part {
    /// The message is the next so many of the batch's bytes.
    Bytes(usize),
    /// It holds descriptors or is long. `None` if it was moved on.
    Message(Option<Box<Message>>),
    /// It was taken from the queue, and could not be received.
    Failed(Box<GetError>),
}

/// The most bytes that a thread keeps for its next batch.
const MOST_KEPT: usize = 4 << 20;

thread_local! {
    /// The batch of this thread, for its next put or get. A `Serialize` or `Deserialize` that
    /// itself uses a queue finds none, and makes one.
    static KEPT: Cell<Option<Box<Batch>>> = const { Cell::new(None) };
}

/// An empty batch. What it has allocated is kept for the thread's next one.
pub(crate) struct Reused(Option<Box<Batch>>);

impl Reused {
    #[inline]
    pub(crate) fn new() -> Self {
        // A thread that is about to end has none any longer.
        let kept = KEPT.try_with(Cell::take).ok().flatten();
        Self(Some(kept.unwrap_or_default()))
    }
}

impl Deref for Reused {
    type Target = Batch;

    #[inline]
    fn deref(&self) -> &Batch {
        let Some(batch) = &self.0 else { unreachable!("only dropping it takes the batch") };
        batch
    }
}

impl DerefMut for Reused {
    #[inline]
    fn deref_mut(&mut self) -> &mut Batch {
        let Some(batch) = &mut self.0 else { unreachable!("only dropping it takes the batch") };
        batch
    }
}

impl Drop for Reused {
    #[inline]
    fn drop(&mut self) {
        let Some(mut batch) = self.0.take() else { return };
        batch.clear();
        if batch.bytes.capacity() > MOST_KEPT {
            batch.bytes = Vec::new();
        }
        let _ = KEPT.try_with(|kept| kept.set(Some(batch)));
    }
}

impl Batch {
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
        self.parts.clear();
    }

    /// Appends a value. If its bytes are too many for the ring they go into a memory file.
    #[inline]
    pub(crate) fn encode<T: Serialize>(&mut self, value: &T, memory: &Memory) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        let message = Message::append(value, &mut self.bytes, memory.most_inline(), Some(&memory.large))?;
        self.parts.push(match message {
            None => Part::Bytes(self.bytes.len() - start),
            Some(message) => Part::Message(Some(Box::new(message))),
        });
        Ok(())
    }
}

impl Batch {
    /// Decodes the next part, which was taken out.
    #[inline(always)]
    pub(crate) fn decode<T: DeserializeOwned>(&mut self, part: Part) -> Result<T, GetError> {
        match part {
            Part::Bytes(length) => {
                let bytes = &mut self.bytes[self.start..][..length];
                self.start += length;
                decode_plain(bytes).map_err(GetError::Decode)
            }
            Part::Message(Some(message)) => message.decode().map_err(GetError::Decode),
            Part::Message(None) => Err(GetError::Io(std::io::ErrorKind::NotFound.into())),
            Part::Failed(error) => Err(*error),
        }
    }
}
