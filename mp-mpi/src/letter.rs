//! What the pool of rank 0 and the workers of other ranks say to each other.
//!
//! A letter is a head, which says what it is, and a body: entries or an encoded value, which are
//! long and are therefore copied as rarely as possible. The letters of a rank arrive in order,
//! whole, and once.

use std::sync::Arc;

use mp_core::raw::{Message, Outcome};
use mp_pool::raw::{Death, News};
use serde::{Deserialize, Serialize};

/// The body of a letter to a rank.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bytes, to arrive as they are.
    Bytes(Vec<u8>),
    /// A value, to arrive as its [encoded form](Message::to_vec).
    Message(Arc<Message>),
}

/// From the pool to a rank.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToRank {
    Start {
        number: usize,
        place: usize,
    },
    /// To one worker.
    Worker(usize, ToWorker),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The body is entries.
    Entries,
    /// The body is the arguments of a call whose entry says so.
    Arguments,
    /// See [`Link::take_back`](mp_pool::raw::Link::take_back).
    TakeBack {
        answered: u32,
        end: u32,
        fenced: bool,
        keep: u32,
    },
    /// The worker has done what it kept, and goes on with this number.
    Unfence {
        fence: u32,
        next: u32,
    },
    Kill,
}

/// From one worker of a rank to the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FromWorker {
    pub(crate) worker: usize,
    pub(crate) what: Told,
    /// The next call that the worker begins.
    pub(crate) next: u32,
    /// How many bytes of entries the worker was given.
    pub(crate) taken: u64,
    /// How much memory it uses, if that is of interest.
    pub(crate) resident: Option<u64>,
    /// The monotonic clock of its host.
    pub(crate) at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The worker was started, as this process.
    Started(u32),
    /// Anything but an outcome.
    News(News),
    /// The body is entries.
    Results,
    /// How a call ended whose entry says so: the body is the value that it returned.
    Returned(u32),
    /// The same without a value.
    Failed(u32, Outcome),
    /// The same if that did not arrive, and why.
    NotReceived(String),
    /// Nothing but what stands beside it.
    Progress,
    Ended {
        death: Death,
        /// It was killed because it broke the protocol.
        is_broken: bool,
    },
}
