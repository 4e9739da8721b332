//! The pool's end of a link to a worker, which alone knows how calls and results travel.
//!
//! A worker is a process of this host (`Local`), or is elsewhere, where other code reaches it. That
//! code implements [`Link`] and [`Hosts`], which [`raw`](crate::raw) exports. The scheduler uses
//! all links by the same vocabulary: it writes entries and messages, reads entries and news, learns
//! how the worker ended, takes calls back and kills. Only taking back differs: a link may answer
//! later, with [`News::TookBack`].

mod local;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mp_core::raw::{Message, Outcome};
use mp_core::{ExitStatus, Panic, SpawnError};
use serde::{Deserialize, Serialize};

pub use crate::board::{Broken, Claimed, NO_END};
use crate::error::TaskError;
use crate::events::Events;
use crate::settings::Settings;
use local::Local;

/// The pool's end of a link to one worker. No method sleeps.
///
/// The pool numbers the calls that it sends to a worker from 0 on. Dropping a link ends the worker,
/// if it has not ended.
pub trait Link: Send {
    /// Returns the worker's name.
    fn name(&self) -> String;

    /// Returns its process id, or 0 if that is not known yet.
    fn pid(&self) -> u32;

    /// Tells whether [`hear`](Self::hear) has something, or the worker has ended. The pool asks in
    /// each turn of its supervisor, which [`Scheduler::wake`](crate::raw::Scheduler::wake) causes.
    /// Links to processes of this host are in a set of epoll(7) instead.
    fn has_news(&self) -> bool {
        false
    }

    /// Takes one thing that the worker has said beside its entries. [Outcomes](News::Outcome) come
    /// first: one is there as soon as the entry that announces it is.
    ///
    /// # Errors
    ///
    /// The worker breaks the protocol, here as in the other methods.
    fn hear(&mut self) -> Result<News, Broken>;

    /// Tells whether there are results to read.
    fn has_results(&self) -> bool;

    /// Appends the entries that the worker has written since the last time.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken>;

    /// Returns what is known of the calls that the worker has begun. It is never ahead of the
    /// truth.
    fn claimed(&self) -> Claimed;

    /// Lets the numbers of calls go on elsewhere; false if the worker is not where it was fenced.
    fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool;

    /// Takes back calls of those that were sent and not answered, but for the first `keep` that the
    /// worker has not begun. Returns the first that does not begin. `None` if there is none, or if
    /// the worker [says later](News::TookBack) which one that is.
    ///
    /// # Errors
    ///
    /// What the worker has begun cannot be.
    fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken>;

    /// Tells whether the worker will say which calls do not begin.
    fn is_taking_back(&self) -> bool {
        false
    }

    /// Returns how many bytes of entries the worker can be sent.
    ///
    /// # Errors
    ///
    /// What the worker has taken cannot be.
    fn room(&self) -> Result<usize, Broken>;

    /// Writes entries for which there is room.
    ///
    /// # Errors
    ///
    /// There is no room any more.
    fn write(&mut self, entries: &[u8]) -> Result<(), Broken>;

    /// Lets the worker see what was written.
    fn publish(&mut self);

    /// Sends the arguments that the next entry announces.
    ///
    /// # Errors
    ///
    /// [`SendFailure`]; they were not sent.
    fn send(&self, message: Arc<Message>) -> Result<(), SendFailure>;

    /// Asks for a wake-up when there are results, once:
    /// [`Scheduler::receive`](crate::raw::Scheduler::receive). Returns true if there may be some
    /// already.
    fn ask_for_wake(&mut self) -> bool;

    /// Withdraws that: a thread is looking for results.
    fn forgo_wake(&mut self);

    /// Tells whether the worker has ended.
    fn has_ended(&self) -> bool;

    /// Returns how the worker ended, if it has. The pool asks once.
    fn death(&mut self) -> Option<Death>;

    /// Returns how many bytes of the worker are resident, if that is known.
    fn resident(&self) -> Option<u64>;

    /// Returns what to add to the worker's monotonic clock to get this host's, in nanoseconds.
    fn clock_offset(&self) -> i64 {
        0
    }

    /// Ends the worker, whatever it does.
    fn kill(&self);
}

/// The workers of a pool that are not on this host.
pub trait Hosts: Send + Sync {
    /// Starts a worker, the `number`th of the pool, in this place; `None` if that is on this host,
    /// where it would have this name. A worker that cannot be started has ended.
    fn start(&self, number: usize, place: usize, name: String) -> Option<Box<dyn Link>>;

    /// Tells whether a worker can be in this place.
    fn has(&self, place: usize) -> bool;

    /// Tells whether a value can be sent to every worker, whichever has its call.
    ///
    /// # Errors
    ///
    /// The text says why it cannot.
    fn accepts(&self, message: &Message) -> Result<(), String>;
}

/// What a worker has said beside its entries.
#[derive(Debug, Serialize, Deserialize)]
pub enum News {
    /// Nothing more for now.
    Nothing,
    /// It takes calls from now on.
    Ready,
    /// Its initializer failed, with this text.
    NotReady(String),
    /// It will say nothing more.
    Silent,
    /// Calls from this one on do not begin; `None` if all had begun.
    TookBack(Option<u32>),
    /// How the call of this number ended, whose entry follows, or why that is not known. It is not
    /// serialised, because it can hold descriptors.
    // The last one, because serde does not count it when it reads.
    #[serde(skip)]
    Outcome(Result<(u32, Outcome), TaskError>),
}

/// Why a message was not sent.
#[derive(Debug)]
pub enum SendFailure {
    /// The worker has ended.
    Lost,
    /// The worker has not read what it was sent before.
    Full,
    /// It cannot be sent to any worker: there is no descriptor for its handles, or no memory.
    Refused(String),
}

/// How a worker has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Death {
    /// Why it is no more.
    pub end: End,
    /// The panic that ended it, in a program where a panic aborts.
    pub panic: Option<Panic>,
}

/// Why a worker is no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum End {
    /// It has ended.
    Exited(ExitStatus),
    /// Its host could not start it.
    NotStarted(String),
    /// Its host was lost. What it had begun was not known in time.
    Lost,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "ended with {status}"),
            Self::NotStarted(why) => f.write_str(why),
            Self::Lost => f.write_str("was lost with its host"),
        }
    }
}

impl End {
    /// What it is for the call that the worker had.
    pub(crate) fn error(&self, attempts: u32, worker: String, function: &'static str) -> TaskError {
        match self {
            Self::Exited(status) => TaskError::Crashed { status: *status, attempts, worker, function },
            Self::NotStarted(why) => TaskError::NoWorker(why.clone()),
            Self::Lost => TaskError::NodeLost { attempts, worker, function },
        }
    }
}

/// Starts workers.
pub(crate) struct Start {
    pub(crate) settings: Arc<Settings>,
    pub(crate) hosts: Option<Arc<dyn Hosts>>,
    pub(crate) events: Arc<Events>,
}

impl Start {
    /// Starts a worker, the `number`th of the pool, in this place among those that there are.
    pub(crate) fn start(&self, number: usize, place: usize) -> Result<Box<dyn Link>, SpawnError> {
        let elsewhere = self.hosts.as_ref().and_then(|hosts| hosts.start(number, place, self.settings.name_of(number)));
        match elsewhere {
            Some(link) => Ok(link),
            None => Ok(Box::new(Local::start(&self.settings, number, place, &self.events)?)),
        }
    }
}
