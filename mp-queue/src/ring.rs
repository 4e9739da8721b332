//! One producer and one consumer: the ring that the queue is built on, without the locks.
//!
//! [`channel`] makes the two ends. Each is a value that is sent to its process and used there by
//! one thread at a time. The module `index` explains the protocol: a message is published by one
//! write to shared memory and taken by another, and a system call is made only to wait, and to wake
//! a side that waits. [`raw`] is the same ring for libraries, without handles and waits; mp-pool's
//! link to a worker consists of two.
//!
//! # Process death
//!
//! An end learns that the other one is gone: at once if it was dropped, within 100 ms if its
//! process was killed. What had been published is still received. A process that is killed in the
//! middle of a send or a receive leaves nothing half done.
//!
//! # Examples
//!
//! ```
//! use mp_core::process_fn;
//! use mp_queue::ring::{self, Receiver, Sender};
//!
//! #[process_fn]
//! fn double(mut numbers: Receiver<u64>, mut doubled: Sender<u64>) {
//!     while let Ok(number) = numbers.recv() {
//!         doubled.send(&(2 * number)).expect("the parent receives");
//!     }
//! }
//!
//! let (mut numbers, to_double) = ring::channel(64 << 10)?;
//! let (from_double, mut doubled) = ring::channel(64 << 10)?;
//! let child = double::spawn(to_double, from_double)?;
//! for number in 0..3 {
//!     numbers.push(&number)?;
//! }
//! numbers.publish()?; // three messages, by one write
//! assert_eq!([doubled.recv()?, doubled.recv()?, doubled.recv()?], [0, 2, 4]);
//! drop(numbers);
//! child.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[allow(unsafe_code, reason = "it divides the bytes of a region among the ends of rings")]
pub mod raw;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mp_core::raw::decode_from;
use mp_sync::futex::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use crate::batch::Batch;
use crate::error::{GetError, PutErrorReason};
use crate::holder::Holder;
use crate::memory::{Memory, Purpose};
use crate::protocol::access::{InRing, Kind, Reader, Record, Writer};
use crate::protocol::index::Index;
use crate::role::{Get, Put, Role};
use crate::transfer::Got;

/// Makes a ring with `bytes` of memory, rounded up to a power of two, and returns its ends.
///
/// A message takes its encoded form, rounded up to 8 bytes, and 8 bytes more. One of more than half
/// the memory, and one that holds descriptors, takes 16 bytes, and travels in memory of its own.
///
/// # Errors
///
/// Descriptors, memory or address space ran out; [`InvalidInput`](io::ErrorKind::InvalidInput) for
/// more than 8 GiB. An end takes five descriptors.
pub fn channel<T>(bytes: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let memory = Arc::new(Memory::create(usize::MAX, bytes, Purpose::Ring)?);
    Ok((Sender::new(Holder::new(Arc::clone(&memory))?), Receiver::new(Holder::new(memory)?)))
}

/// The end of a ring that sends.
///
/// Sending the `Sender` itself, inside a value, gives it away: the original can only be dropped.
pub struct Sender<T> {
    end: End<Put>,
    values: PhantomData<fn(T)>,
}

/// The end of a ring that receives.
///
/// Sending the `Receiver` itself, inside a value, gives it away: the original can only be dropped.
pub struct Receiver<T> {
    end: End<Get>,
    values: PhantomData<fn() -> T>,
}

struct End<R: Role> {
    holder: Holder<R>,
    /// The other side's index when it was last looked at.
    seen: Index,
    /// Of a sender: the messages that were pushed. Of a receiver: the one that is being received.
    batch: Batch,
    /// It is in another process, or on its way.
    is_given: AtomicBool,
}

impl<R: Role> End<R> {
    fn new(holder: Holder<R>) -> Self {
        let indices = &holder.head().indices;
        // The ring may hold messages: a sender takes it for as full as it is, and a receiver, which
        // takes it for empty, looks first.
        let seen = indices.head();
        Self { holder, seen, batch: Batch::default(), is_given: AtomicBool::new(false) }
    }

    fn is_given(&mut self) -> bool {
        *self.is_given.get_mut()
    }

    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_given.swap(true, Ordering::Relaxed) {
            return Err(ser::Error::custom("an end of a ring is in one process only, and this one was sent already"));
        }
        self.holder.serialize(serializer)
    }
}

impl<T> Sender<T> {
    fn new(holder: Holder<Put>) -> Self {
        Self { end: End::new(holder), values: PhantomData }
    }

    /// Tells whether the ring is empty: the receiver has taken everything that was published.
    pub fn is_empty(&self) -> bool {
        self.end.holder.len() == 0
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, waiting while the ring is full.
    ///
    /// # Errors
    ///
    /// [`PutErrorReason::Disconnected`] once the receiver is gone,
    /// [`Encode`](PutErrorReason::Encode), [`Damaged`](PutErrorReason::Damaged),
    /// [`Io`](PutErrorReason::Io). Messages that were pushed before and could not be published
    /// are dropped.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), PutErrorReason> {
        self.push(message)?;
        self.publish()
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`PutErrorReason::Full`].
    pub fn try_send(&mut self, message: &T) -> Result<(), PutErrorReason> {
        self.push(message)?;
        self.publish_until(Deadline::PASSED)
    }

    /// Sends a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`PutErrorReason::TimedOut`].
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), PutErrorReason> {
        self.push(message)?;
        self.publish_until(Deadline::after(timeout))
    }

    /// Encodes a message to be sent together with others: by [`publish`](Self::publish), or with
    /// the next [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`PutErrorReason::Encode`]. The others stay.
    #[inline]
    pub fn push(&mut self, message: &T) -> Result<(), PutErrorReason> {
        let End { holder, batch, .. } = &mut self.end;
        batch.encode(message, holder).map_err(PutErrorReason::Encode)
    }

    /// Sends what was pushed, in order, waiting while the ring is full. If there is room for all,
    /// the receiver gets them by one write.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn publish(&mut self) -> Result<(), PutErrorReason> {
        self.publish_until(Deadline::NEVER)
    }

    #[inline]
    fn publish_until(&mut self, deadline: Deadline) -> Result<(), PutErrorReason> {
        if self.end.is_given() {
            self.end.batch.clear();
            return Err(PutErrorReason::Closed);
        }
        let End { holder, seen, batch, .. } = &mut self.end;
        let mut writer = Writer::new(holder.ring(), *seen);
        let result = holder.put_by(batch, deadline, 0, |batch, put| holder.write(&mut writer, batch, put)).1;
        *seen = writer.head();
        batch.clear();
        result
    }
}

impl<T> Receiver<T> {
    fn new(holder: Holder<Get>) -> Self {
        Self { end: End::new(holder), values: PhantomData }
    }

    /// Tells whether the ring is empty now.
    pub fn is_empty(&self) -> bool {
        self.end.holder.len() == 0
    }

    /// Returns a descriptor that is readable while a [`recv`](Self::recv) would not wait, for
    /// [`mp_core::wait`] and poll(2). Call this again before each wait.
    ///
    /// # Errors
    ///
    /// What the system says when asked who holds the ring.
    pub fn readable(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.end.holder.watch_items(0)?.as_fd())
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    ///
    /// [`GetError::Disconnected`] once the sender is gone and the ring is empty;
    /// [`GetError::Decode`] for a message that is no `T`, which is lost;
    /// [`Damaged`](GetError::Damaged); [`Io`](GetError::Io).
    #[inline]
    pub fn recv(&mut self) -> Result<T, GetError> {
        // Without a deadline there is always a message or an error.
        self.recv_until(Deadline::NEVER)?.ok_or(GetError::Disconnected)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<T>, GetError> {
        self.recv_until(Deadline::PASSED)
    }

    /// Receives the next message, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<T>, GetError> {
        self.recv_until(Deadline::after(timeout))
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<Option<T>, GetError> {
        if self.end.is_given() {
            return Err(GetError::Closed);
        }
        let End { holder, seen, batch, .. } = &mut self.end;
        let ring = holder.ring();
        let mut reader = Reader::new(ring, *seen);
        let found = holder.get_by(deadline, 0, || Ok(reader.find()?.map_or(Got::Nothing, Got::Some)));
        *seen = reader.tail();
        let Some(record) = found? else { return Ok(None) };
        batch.clear();
        if record.kind == Kind::Message && record.length > SHORT {
            // Taken when it was decoded, even if that panics.
            let taking = Taking { holder, reader, record };
            let source = InRing { ring, record };
            let value = decode_from(&source, record.length, &mut batch.bytes);
            drop(taking);
            return value.map(Some).map_err(GetError::Decode);
        }
        holder.read(&mut reader, batch, 1)?;
        holder.notify_space();
        let Some(part) = batch.parts.pop() else { return Ok(None) };
        Ok(Some(batch.decode(part)?))
    }
}

/// A longer message is decoded straight from the ring, in bytes. Copying a shorter one first takes
/// less time.
const SHORT: usize = 16 << 10;

/// A record that is taken when this is dropped.
struct Taking<'a> {
    holder: &'a Holder<Get>,
    reader: Reader<'a>,
    record: Record,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.reader.pass(&self.record);
        self.reader.take();
        self.holder.notify_space();
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.end.batch.parts.is_empty() {
            return Err(ser::Error::custom("an end of a ring cannot be sent while pushed messages are not published"));
        }
        self.end.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Holder::deserialize(&[Purpose::Ring], deserializer).map(Self::new)
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.end.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Holder::deserialize(&[Purpose::Ring], deserializer).map(Self::new)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.end.holder.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.end.holder.len()).finish_non_exhaustive()
    }
}
