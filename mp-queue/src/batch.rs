//! Encoded messages on their way into the ring, or out of it.

use std::cell::RefCell;
use std::ops::Range;

use mp_core::raw::{Encoded, Message, Sink, decode_plain};
use mp_core::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::Memory;

/// Some messages, in order.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: Vec<Part>,
}

pub(crate) enum Part {
    /// The message is in the batch's bytes.
    Bytes(Range<usize>),
    /// It holds descriptors or is long. `None` if it was moved on.
    Message(Option<Box<Message>>),
    /// It was taken from the queue, and could not be received.
    Failed(Failure),
}

/// The most bytes that a thread keeps for its next batch.
const MOST_KEPT: usize = 4 << 20;

thread_local! {
    /// The batch of this thread. A `Serialize` or `Deserialize` that itself uses a queue finds it
    /// in use, and gets one of its own.
    static BATCH: RefCell<Batch> = const { RefCell::new(Batch { bytes: Vec::new(), parts: Vec::new() }) };
}

impl Batch {
    /// Gives an empty batch to `work`.
    #[inline]
    pub(crate) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        let mut work = Some(work);
        let result = BATCH.try_with(|batch| {
            let mut batch = batch.try_borrow_mut().ok()?;
            batch.clear();
            let result = work.take().map(|work| work(&mut batch));
            batch.parts.clear();
            if batch.bytes.capacity() > MOST_KEPT {
                batch.bytes = Vec::new();
            }
            result
        });
        match (result, work) {
            (Ok(Some(result)), _) => result,
            // In use, or the thread is about to end and its own is gone.
            (_, Some(work)) => work(&mut Self::default()),
            (_, None) => unreachable!("the work was done, and has a result"),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    /// Appends a value. If its bytes are too many for the ring they go into a memory file.
    #[inline]
    pub(crate) fn encode<T: Serialize>(&mut self, value: &T, memory: &Memory) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        let message = Message::append(value, &mut self.bytes, memory.most_inline(), &memory.large)?;
        self.parts.push(match message {
            None => Part::Bytes(start..self.bytes.len()),
            Some(message) => Part::Message(Some(Box::new(message))),
        });
        Ok(())
    }
}

impl Batch {
    /// Encodes a value into `sink`, or appends it if it finds no room there. Tells whether it is in
    /// the sink.
    #[inline]
    pub(crate) fn encode_straight<T: Serialize>(
        &mut self,
        value: &T,
        sink: &mut impl Sink,
        memory: &Memory,
    ) -> Result<bool, EncodeError> {
        let start = self.bytes.len();
        let (most, large) = (memory.most_inline(), &memory.large);
        self.parts.push(match Message::encode_straight(value, sink, &mut self.bytes, most, large)? {
            Encoded::InSink => return Ok(true),
            Encoded::InBuffer => Part::Bytes(start..self.bytes.len()),
            Encoded::Message(message) => Part::Message(Some(Box::new(message))),
        });
        Ok(false)
    }
}

/// Decodes one message of a batch whose bytes these are.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(bytes: &mut [u8], part: Part) -> Result<T, Failure> {
    match part {
        Part::Bytes(range) => decode_plain(&mut bytes[range]).map_err(Failure::Decode),
        Part::Message(Some(message)) => message.decode().map_err(Failure::Decode),
        Part::Message(None) => Err(Failure::Io(std::io::ErrorKind::NotFound.into())),
        Part::Failed(failure) => Err(failure),
    }
}

/// Why a message that was taken is not a value.
pub(crate) enum Failure {
    Decode(DecodeError),
    Io(std::io::Error),
}
