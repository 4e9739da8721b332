//! What is done about a value whose message was not delivered.
//!
//! An encoded value has a [`Delivery`] if a part of it asked for one. Whoever holds the encoded form holds it too, and lets go of it
//! when he lets go of that.
//!
//! | state | meaning | next |
//! |---|---|---|
//! | waiting | nobody has it yet | lent, delivered, or dropped: what was asked for is done |
//! | lent | it is a `Message`, and stands in an encoded value around it | waiting, when that one is dropped; delivered with it |
//! | delivered | a receiver has it, or the kernel for him | nothing is done any more |
//!
//! 1. A message that holds such a part is delivered once at most: it stands in one other message at a time, and who has been
//!    delivered cannot be lent or decoded. Else a receiver of each copy would believe to be the only owner.
//! 2. Being delivered cannot fail, and takes effect before any code of others runs.
//! 3. What was asked for runs on the thread that lets go last, with no lock of this module held.

#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::ser;

use super::ask;
use crate::codec::MAX_DEPTH;

const WAITING: u8 = 0;
const LENT: u8 = 1;
const DELIVERED: u8 = 2;

/// What a part of a value asked for.
pub(super) enum Request {
    Undo(Box<dyn FnOnce() + Send>),
    /// It is a message itself.
    Lent(Lent),
}

/// Says what is to be done if the message that is being encoded on this thread is not delivered. `Serialize` implementations of values
/// of which there is only one call it, so that sending gives them away, and a failure to send gives them back.
///
/// Call it before anything of the value is encoded, its descriptor among the rest. Exactly one of these two happens:
///
/// - The message is *delivered*: all of it is in the kernel's hands, for its receiver; or it was a [`Message`](crate::Message) that was
///   decoded here, with success or without, or an [`EncodedCall`](crate::EncodedCall) that was run here. Then `undo` is dropped, soon
///   but not necessarily at once. Whether the receiver ever looks at it is another matter.
/// - It is *not*: it could not be encoded to its end, sending failed or timed out, there was no room, it was a `Message` or a call that
///   was dropped, no process could be spawned for it, the future that was to send it was dropped. Then `undo` runs once, on the thread
///   that lets go of what was encoded, and before a value that could not be sent is given back.
///
/// A message that is inside another one is delivered with that. A message in which somebody has asked for this is delivered once
/// at most, by whoever passes it on as well; see [`Message`](crate::Message#values-of-which-there-is-only-one).
///
/// A long message is encoded a second time if it turns out that it cannot be received while it is encoded, and one
/// in which somebody asks for this never can. `undo` runs between the two. If its receiver has refused such a message before it came
/// to this value, sending succeeds, as with any message that its receiver cannot read, and `undo` runs.
///
/// Several are done in reverse order. `undo` may encode and send. It should be short and wait for nobody, as it runs wherever a message
/// happens to be let go of.
///
/// Returns true if a message is being encoded on this thread. If not, `undo` has run already, and the value should refuse to be
/// encoded, as every descriptor does.
///
/// # Panics
///
/// It does not. A panic of `undo`, or of what is dropped with it, is caught after the panic hook has reported it, and changes nothing
/// else: the others are done, and whoever sends gets the error that he would have got.
///
/// # Process death
///
/// `undo` does not run if this process dies first, and it does not run because the receiver has died after delivery. What a message
/// holds that nobody receives is closed by the kernel.
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use mp_core::{fd, pipe};
/// use serde::{Serialize, Serializer, ser};
///
/// /// A file that belongs to one process at a time.
/// struct Exclusive {
///     file: File,
///     sent: Arc<AtomicBool>,
/// }
///
/// impl Serialize for Exclusive {
///     fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
///         if self.sent.swap(true, Ordering::AcqRel) {
///             return Err(ser::Error::custom("the file was sent already"));
///         }
///         let sent = Arc::clone(&self.sent);
///         fd::if_undelivered(move || sent.store(false, Ordering::Release));
///         fd::serialize(&self.file, serializer)
///     }
/// }
///
/// let file = Exclusive { file: tempfile::tempfile()?, sent: Arc::default() };
/// let (sender, receiver) = pipe()?;
/// drop(receiver);
/// let file = sender.send(file).unwrap_err().value;
/// assert!(!file.sent.load(Ordering::Acquire)); // it is ours, as before
///
/// let (sender, _receiver) = pipe()?;
/// sender.send_ref(&file)?;
/// assert!(file.sent.load(Ordering::Acquire));
/// assert!(sender.send(file).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn if_undelivered(undo: impl FnOnce() + Send + 'static) -> bool {
    // Neither boxing nor undoing happens while the state is borrowed.
    match ask(Request::Undo(Box::new(undo))) {
        Ok(()) => true,
        Err(request) => {
            drop(Undelivered::new(vec![request]));
            false
        }
    }
}

/// Puts an encoded value into the one that is being encoded on this thread, which shares its fate from now on.
pub(crate) fn lend<E: ser::Error>(inner: &Undelivered) -> Result<(), E> {
    let Some(lent) = inner.lend().map_err(E::custom)? else { return Ok(()) };
    if lent.is_too_deep() {
        return Err(E::custom("too many messages stand inside each other"));
    }
    match ask(Request::Lent(lent)) {
        Ok(()) => Ok(()),
        Err(_) => Err(E::custom(
            "the message holds a value of which there is only one, and can only be encoded inside another message",
        )),
    }
}

/// What is done if an encoded value is not delivered: dropping this does it, unless it was said before that the value was delivered. Most
/// values ask for nothing.
#[derive(Default)]
pub(crate) struct Undelivered(Option<Arc<Delivery>>);

struct Delivery {
    state: AtomicU8,
    /// Nobody waits for the lock: it makes closures `Sync`, and lets what is lent be told.
    requests: Mutex<Vec<Request>>,
    /// How many messages stand inside each other.
    depth: u32,
}

impl fmt::Debug for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Undelivered").field(&self.is_once()).finish()
    }
}

/// The message was delivered already, or is on its way inside another one.
#[derive(Debug)]
pub(crate) struct Elsewhere;

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message holds a value of which there is only one, and was sent already")
    }
}

impl Undelivered {
    pub(super) fn new(requests: Vec<Request>) -> Self {
        if requests.is_empty() {
            return Self(None);
        }
        let inner = |request: &Request| match request {
            Request::Lent(Lent(delivery)) => delivery.depth + 1,
            Request::Undo(_) => 0,
        };
        let depth = requests.iter().map(inner).max().unwrap_or(0);
        Self(Some(Arc::new(Delivery { state: AtomicU8::new(WAITING), requests: Mutex::new(requests), depth })))
    }

    /// That of a message that was received: whoever passes it on can do so once, but there is nothing to be done if he cannot.
    pub(crate) fn once() -> Self {
        let requests = Mutex::new(Vec::new());
        Self(Some(Arc::new(Delivery { state: AtomicU8::new(WAITING), requests, depth: 0 })))
    }

    /// Whether the value can be delivered once only.
    pub(crate) fn is_once(&self) -> bool {
        self.0.is_some()
    }

    /// The encoded value, which stands in no other, has reached its receiver, or the kernel has it for him.
    #[inline]
    pub(crate) fn delivered(&self) {
        if let Some(delivery) = &self.0 {
            delivery.deliver();
        }
    }

    /// The value is about to be decoded here.
    pub(crate) fn take(&self) -> Result<(), Elsewhere> {
        let Some(delivery) = &self.0 else { return Ok(()) };
        delivery.change(WAITING, DELIVERED)?;
        delivery.deliver();
        Ok(())
    }

    /// The encoded value is put into another one; `None` if that may be done as often as one likes.
    fn lend(&self) -> Result<Option<Lent>, Elsewhere> {
        let Some(delivery) = &self.0 else { return Ok(None) };
        delivery.change(WAITING, LENT)?;
        Ok(Some(Lent(Arc::clone(delivery))))
    }
}

/// The hold of an encoded value on one that stands in it.
pub(super) struct Lent(Arc<Delivery>);

impl Lent {
    /// Whether no other message may be put around this one: letting go of them recurses as deep as they stand inside each other.
    pub(super) fn is_too_deep(&self) -> bool {
        self.0.depth >= MAX_DEPTH
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // It may have been delivered.
        let _ = self.0.change(LENT, WAITING);
    }
}

impl Delivery {
    fn change(&self, from: u8, to: u8) -> Result<(), Elsewhere> {
        match self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(Elsewhere),
        }
    }

    fn deliver(&self) {
        self.state.store(DELIVERED, Ordering::Release);
        for request in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Request::Lent(Lent(inner)) = request {
                inner.deliver();
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let delivered = *self.state.get_mut() == DELIVERED;
        let requests = mem::take(self.requests.get_mut().unwrap_or_else(PoisonError::into_inner));
        // The last one first, as locals are dropped.
        for request in requests.into_iter().rev() {
            settle(request, delivered);
        }
    }
}

fn settle(request: Request, delivered: bool) {
    // A panic must not keep the others from being done, nor get in the way of the transport, which may itself be unwinding.
    let settled = catch_unwind(AssertUnwindSafe(|| match request {
        Request::Undo(undo) if !delivered => undo(),
        request => drop(request),
    }));
    if let Err(payload) = settled {
        // Dropping a payload runs code of whoever panicked, which may panic again.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(again);
        }
    }
}
