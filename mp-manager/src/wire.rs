//! What processes and the server say to each other.
//!
//! A process that uses a server makes a pair of sockets and sends one end through the server's
//! door, which every proxy holds. From then on each packet is some [`Request`]s or some
//! [`Response`]s, as many as are ready at the same time.
//! The server may answer in another order than it was asked.

use mp_core::raw::SharedFd;
use mp_core::{Connection, RecvError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::error::CallError;
use crate::value::{Entry, Key, Value};

/// The server's end of a connection, which goes through the door.
pub(crate) type ServersEnd = Connection<Vec<Response>, Vec<Request>>;

/// The other end.
pub(crate) type ClientsEnd = Connection<Vec<Request>, Vec<Response>>;

/// How many requests or answers share a packet at most.
pub(crate) const TOGETHER: usize = 64;

/// The number of requests that have no answer.
pub(crate) const NO_CALL: u64 = 0;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Chosen by the client; the response has it as well. [`NO_CALL`] has no response.
    pub(crate) call: u64,
    /// The object. The server itself is 0.
    pub(crate) object: u64,
    /// How long the call may wait in the server; `None` is without a limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) call: u64,
    pub(crate) body: Body,
}

/// What a new object holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Initial {
    Map,
    List,
    Cell(Value),
    // With the most values, if there is a limit.
    Queue(Option<u64>),
    Lock,
    Semaphore { permits: u64, bound: Option<u64> },
    Event(bool),
    Barrier(u64),
}

/// Where in its object a value is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    Key(Key),
    Index(u64),
    Whole,
}

/// In a change: the end of the list.
pub(crate) const END: u64 = u64::MAX;

/// A change of an object that holds values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The value at a place becomes another one. In a map the key may be new.
    Put(Place, Value),
    /// A list gets a value at an index, or at its [`END`].
    Insert(u64, Value),
    /// The last value of a list is at its [`END`].
    Remove(Place),
    Clear,
}

impl Change {
    /// How many bytes its key and its value have.
    pub(crate) fn length(&self) -> u64 {
        let key = match self {
            Self::Put(Place::Key(key), _) | Self::Remove(Place::Key(key)) => key.length(),
            _ => 0,
        };
        match self {
            Self::Put(_, value) | Self::Insert(_, value) => key + value.length(),
            Self::Remove(_) | Self::Clear => key,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    // Of the server.
    Ping,
    Create { initial: Initial, interface: String },
    // Makes an object of a type of the user's, by one of its constructors.
    Construct { class: String, method: u32, arguments: Value, interface: String },
    Publish { name: String, object: u64 },
    Unpublish(String),
    Find { name: String, interface: String },
    Objects,
    // Of any object that holds values.
    Get(Place),
    // Answered with the value that was there before.
    Change(Change),
    // Several at once.
    Changes(Vec<Change>),
    Modify { place: Place, function: String, argument: Value },
    CompareExchange { place: Place, old: Option<Value>, new: Option<Value> },
    Len,
    Entries,
    // Asks for what the watcher of this number has not seen.
    Watch(u64),
    // The watcher of this number has ended.
    Unwatch(u64),
    // Of the rest of a page: some of the values, from the one of this number on.
    Piece(u64),
    // Of a map.
    Contains(Key),
    GetMany(Vec<Key>),
    Keys,
    // Of a queue.
    Put(Value),
    Take,
    // The value that answered the call has arrived, or it has not and goes to another one.
    Acknowledge { call: u64, arrived: bool },
    // Of a semaphore, with a number of permits.
    Acquire(u64),
    Release(u64),
    // Of a lock and its condition, with the token of the holder.
    Unlock(u64),
    Sleep(u64),
    Notify(u64, u64),
    // Of an object of a type of the user's.
    Call(u32, Value),
    // Of an event and a barrier.
    Wait,
    // Whether an event is set, a barrier broken, or an object of a type of the user's poisoned.
    SetFlag(bool),
    IsSet,
}

impl Operation {
    /// Tells whether the call may have to wait for other calls.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Take | Self::Acquire(_) | Self::Sleep(_) | Self::Wait | Self::Watch(_))
    }

    /// Calls `f` with each value in it.
    pub(crate) fn for_each_value<E>(&mut self, mut f: impl FnMut(&mut Value) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Create { initial: Initial::Cell(value), .. }
            | Self::Change(Change::Put(_, value) | Change::Insert(_, value))
            | Self::Put(value)
            | Self::Call(_, value)
            | Self::Construct { arguments: value, .. }
            | Self::Modify { argument: value, .. } => f(value),
            Self::CompareExchange { old, new, .. } => old.iter_mut().chain(new).try_for_each(f),
            Self::Changes(changes) => changes.iter_mut().try_for_each(|change| match change {
                Change::Put(_, value) | Change::Insert(_, value) => f(value),
                Change::Remove(_) | Change::Clear => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

/// An object, and a lease of it, which does not leave the machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) object: u64,
    pub(crate) descriptor: Option<SharedFd>,
}

/// Values of one instant with their keys, which are empty in a list and a cell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// An object of those that did not fit.
    pub(crate) rest: Option<Lease>,
}

impl From<Vec<Entry>> for Page {
    fn from(entries: Vec<Entry>) -> Self {
        Self { entries, rest: None }
    }
}

/// A lock, or permits, as their new holder gets them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) token: u64,
    pub(crate) owner_died: bool,
    /// A condition was notified.
    pub(crate) notified: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    Done,
    Flag(bool),
    Number(u64),
    Value(Option<Value>),
    Values(Vec<Option<Value>>),
    Entries(Page),
    Changes(Vec<Change>),
    Object(Lease),
    Objects(Vec<ObjectInfo>),
    Locked(Held),
    /// The value that was there in place of the expected one.
    Unequal(Option<Value>),
    Failed(CallError),
    /// The next packet is the answer. If its descriptors are lost, the client knows whose they
    /// were.
    Follows,
}

impl Body {
    /// Tells whether it can share a packet with other answers: it is short, and has no descriptors.
    pub(crate) fn is_small(&self) -> bool {
        match self {
            Self::Done | Self::Flag(_) | Self::Number(_) | Self::Locked(_) | Self::Failed(_) | Self::Follows => true,
            Self::Value(value) | Self::Unequal(value) => value.as_ref().is_none_or(Value::is_small),
            _ => false,
        }
    }

    /// Tells whether it may need descriptors, even those of long bytes, so that it can be lost.
    pub(crate) fn can_be_lost(&self) -> bool {
        match self {
            Self::Value(Some(value)) => value.has_descriptors() || value.length() > 8 << 10,
            _ => !self.is_small(),
        }
    }

    /// Returns the lease in it.
    pub(crate) fn lease(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Object(lease) | Self::Entries(Page { rest: Some(lease), .. }) => Some(lease),
            _ => None,
        }
    }
}

/// The call whose answer the next packet is, if the server has said so.
#[derive(Debug, Default)]
pub(crate) struct Announced(Option<u64>);

impl Announced {
    /// Makes an answer that is lost an error of its call. Otherwise the connection is of no more
    /// use, because nothing says whose answer it was.
    pub(crate) fn check(
        &mut self,
        received: Result<Option<Vec<Response>>, RecvError>,
    ) -> Result<Option<Vec<Response>>, RecvError> {
        match (received, self.0) {
            (Err(error), Some(call)) if !matches!(error, RecvError::Disconnected) => {
                self.0 = None;
                let why = match error {
                    RecvError::Decode(error) => CallError::Decode(error),
                    error => CallError::Busy(format!("the answer could not be received here: {error}")),
                };
                Ok(Some(vec![Response { call, body: Body::Failed(why) }]))
            }
            (Ok(Some(answers)), _) => {
                let last = answers.last().filter(|answer| matches!(answer.body, Body::Follows));
                self.0 = last.map(|answer| answer.call);
                Ok(Some(answers))
            }
            (other, _) => other,
        }
    }
}

/// What a call expects as its answer.
pub(crate) trait Answer: Sized {
    /// Returns the error, or another answer than one of this type, as it is.
    fn from_body(body: Body) -> Result<Self, Body>;
}

macro_rules! answers {
    ($($answer:ty: { $($body:pat => $value:expr),+ })+) => {$(
        impl Answer for $answer {
            fn from_body(body: Body) -> Result<Self, Body> {
                match body {
                    $($body => Ok($value),)+
                    other => Err(other),
                }
            }
        }
    )+};
}

answers! {
    (): { Body::Done => () }
    bool: { Body::Flag(flag) => flag }
    usize: { Body::Number(number) => number as usize }
    Option<Value>: { Body::Value(value) => value }
    Value: { Body::Value(Some(value)) => value }
    Vec<Option<Value>>: { Body::Values(values) => values }
    Page: { Body::Entries(page) => page }
    Lease: { Body::Object(lease) => lease }
    Vec<ObjectInfo>: { Body::Objects(objects) => objects }
    Option<Held>: { Body::Locked(held) => Some(held), Body::Flag(false) => None }
    Result<(), Option<Value>>: { Body::Done => Ok(()), Body::Unequal(found) => Err(found) }
    Result<Page, Vec<Change>>: { Body::Entries(page) => Ok(page), Body::Changes(changes) => Err(changes) }
    Result<Lease, Value>: { Body::Object(lease) => Ok(lease), Body::Value(Some(error)) => Err(error) }
}

/// Describes an object of a server, for debugging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// The number of the object, which is never used again in its server.
    pub id: u64,
    /// The type of its proxies.
    pub type_name: String,
    /// How many values it holds; of a semaphore or a lock, how many permits are free; of a barrier,
    /// how many calls wait.
    pub len: u64,
    /// Whether a process, or a message in flight, has a proxy of it.
    pub leased: bool,
    /// How many values in the server and names refer to it.
    pub references: u64,
}

#[cfg(test)]
mod tests;
