//! The lane: where the messages travel that are not in the ring.

use std::io;

use mp_core::raw::Message;
use mp_core::{RecvError, SendErrorReason};
use mp_sync::futex::Deadline;

use super::{Attempt, Instant, lock, reached};
use crate::batch::Part;
use crate::error::{GetError, PutErrorReason};
use crate::memory::{LaneMessage, Memory, Purpose};
use crate::protocol::access::{Kind, Writer};

/// More messages than the lane can hold.
const MOST_IN_LANE: usize = 1 << 16;

impl Memory {
    /// Sends a message into the lane, and writes its record. It stays where it is if it cannot be
    /// sent.
    pub(super) fn write_beside(
        &self,
        writer: &mut Writer<'_>,
        message: &mut Option<Box<Message>>,
    ) -> Result<Attempt, PutErrorReason> {
        if !writer.has_room(size_of::<u64>())? {
            return Ok(Attempt::NoRoom);
        }
        let Some(taken) = message.take() else { return Ok(Attempt::Done) };
        let tag = self.tag();
        if let Err(error) = self.lane_in.try_send(LaneMessage { tag, message: *taken }) {
            *message = Some(Box::new(error.value.message));
            return match error.reason {
                SendErrorReason::Full | SendErrorReason::TimedOut => Ok(Attempt::LaneFull),
                SendErrorReason::Encode(error) => Err(PutErrorReason::Encode(error)),
                SendErrorReason::Io(error) => Err(PutErrorReason::Io(error)),
                // This process has a receiver itself.
                _ => Err(PutErrorReason::Damaged("its lane is shut down")),
            };
        }
        reached(Instant::Sent);
        writer.write(Kind::Lane, &tag.to_ne_bytes())?;
        Ok(Attempt::Done)
    }

    /// Receives the message with that tag from the lane.
    pub(super) fn receive(&self, tag: &[u8]) -> Part {
        let Ok(tag) = tag.try_into().map(u64::from_ne_bytes) else {
            return missing("a record has no tag");
        };
        for _ in 0..MOST_IN_LANE {
            return match self.lane_out.try_recv() {
                Ok(Some(found)) if found.tag == tag => {
                    reached(Instant::Received);
                    Part::Message(Some(Box::new(found.message)))
                }
                // Its producer or its consumer died.
                Ok(Some(_)) => continue,
                Ok(None) => break,
                // Hardly ever another one than ours.
                Err(RecvError::Decode(error)) => Part::Failed(Box::new(GetError::Decode(error))),
                Err(RecvError::Io(error)) => Part::Failed(Box::new(GetError::Io(error))),
                Err(error) => Part::Failed(Box::new(GetError::Io(io::Error::other(error)))),
            };
        }
        missing("another process has taken the descriptors of the value")
    }

    /// Takes out of the lane what dead processes have left in it, and tells whether there was any;
    /// `None` if the ring is not empty, or others were in the middle of something until the
    /// deadline.
    #[cold]
    pub(super) fn tidy_lane(&self, deadline: Deadline) -> Option<bool> {
        if self.purpose == Purpose::Ring {
            // Its two ends have no locks, and nobody takes the place of one that died.
            return Some(false);
        }
        let head = self.head();
        let Ok(Some(_producer)) = lock(&head.producer.0, deadline) else { return None };
        let Ok(Some(_consumer)) = lock(&head.consumer.0, deadline) else { return None };
        if head.indices.tail().units_since(head.indices.head()) != 0 {
            return None;
        }
        // A process that is out of order could fill it as fast as this empties it.
        let found = (0..MOST_IN_LANE).map(|_| self.lane_out.try_recv());
        Some(found.take_while(|found| matches!(found, Ok(Some(_)) | Err(RecvError::Decode(_)))).count() > 0)
    }
}

fn missing(what: &'static str) -> Part {
    Part::Failed(Box::new(GetError::Io(io::Error::new(io::ErrorKind::InvalidData, what))))
}
