//! The pool's end of a link to a worker: the only module of the pool's side that knows how calls
//! and results travel.
//!
//! A worker is a process of this host ([`local`]) or of another one ([`remote`]). The scheduler
//! knows both by the same vocabulary: it writes entries and messages, reads entries, news and how
//! the worker ended, takes calls back and kills. Only taking back differs: another host answers
//! later, with [`News::TookBack`].

pub(crate) mod cluster;
mod local;
pub(crate) mod remote;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mp_core::raw::Outcome;
use mp_core::{ExitStatus, Panic, SpawnError};
use serde::{Deserialize, Serialize};

use crate::board::{Broken, Claimed};
use crate::error::TaskError;
use crate::events::Events;
use crate::settings::Settings;
use crate::wire::SharedMessage;
use cluster::Cluster;
pub(crate) use local::{Local, start};
use remote::Remote;

/// One worker. No method sleeps.
pub(crate) enum Link {
    Local(Box<Local>),
    Remote(Remote),
}

/// What a worker has said beside its results.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Nothing,
    Ready,
    NotReady(String),
    /// It will say nothing more.
    Silent,
    /// Calls from this one on do not begin; `None` if all had begun.
    TookBack(Option<u32>),
}

/// Why a message was not sent.
pub(crate) enum SendFailure {
    /// The worker has ended.
    Lost,
    /// The worker has not read what it was sent before.
    Full,
    /// It cannot be sent to any worker: there is no descriptor for its handles, or no memory.
    Refused(String),
}

/// How a worker has ended.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) end: End,
    /// The panic that ended it, in a program where a panic aborts.
    pub(crate) panic: Option<Panic>,
}

/// Why a worker is no more.
#[derive(Clone, Debug)]
pub(crate) enum End {
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
    pub(crate) fn unknown() -> Self {
        Self::Exited(ExitStatus::Unknown)
    }

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
    settings: Arc<Settings>,
    cluster: Option<Arc<Cluster>>,
    events: Arc<Events>,
}

impl Start {
    pub(crate) fn new(settings: Arc<Settings>, cluster: Option<Arc<Cluster>>, events: Arc<Events>) -> Self {
        Self { settings, cluster, events }
    }

    /// Starts a worker, the `number`th of the pool, in this place among those that there are.
    pub(crate) fn start(&self, number: usize, place: usize) -> Result<Link, SpawnError> {
        match self.cluster.as_ref().and_then(|cluster| Some((cluster, cluster.site(place)?))) {
            Some((cluster, (node, place))) => Ok(Link::Remote(Remote::start(cluster, node, number, place))),
            None => start(&self.settings, number, place, &self.events).map(|link| Link::Local(Box::new(link))),
        }
    }
}

/// Does the same with either kind of link.
macro_rules! either {
    ($link:expr, $each:ident => $result:expr) => {
        match $link {
            Link::Local($each) => $result,
            Link::Remote($each) => $result,
        }
    };
}

impl Link {
    /// Whether a worker of another host has said something or ended.
    pub(crate) fn has_news(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Remote(remote) => remote.has_news(),
        }
    }

    pub(crate) fn name(&self) -> String {
        either!(self, link => link.name())
    }

    pub(crate) fn pid(&self) -> u32 {
        either!(self, link => link.pid())
    }

    /// Takes one thing that the worker has said.
    pub(crate) fn hear(&mut self) -> Result<News, Broken> {
        either!(self, link => link.hear())
    }

    /// Takes how the call of this number ended, which the worker has sent.
    pub(crate) fn outcome(&mut self, position: u32) -> Result<Result<Outcome, TaskError>, Broken> {
        either!(self, link => link.outcome(position))
    }

    /// Whether there are results to read.
    pub(crate) fn has_results(&self) -> bool {
        either!(self, link => link.has_results())
    }

    /// Appends the entries that the worker has written since the last time.
    pub(crate) fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken> {
        either!(self, link => link.read(entries))
    }

    pub(crate) fn claimed(&self) -> Claimed {
        either!(self, link => link.claimed())
    }

    /// Lets the numbers of calls go on elsewhere; false if the worker is not where it was fenced.
    pub(crate) fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool {
        either!(self, link => link.change_claim(from, to))
    }

    /// Takes back calls of those that were sent and not answered, but for the first `keep` that the
    /// worker has not begun. Returns the first that does not begin. `None` if there is none, or if
    /// the worker [says later](News::TookBack) which one that is.
    pub(crate) fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken> {
        either!(self, link => link.take_back(sent, fenced, keep))
    }

    /// Whether the worker will say which calls do not begin.
    pub(crate) fn is_taking_back(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Remote(remote) => remote.is_taking_back(),
        }
    }

    /// How many bytes of entries the worker can be sent.
    pub(crate) fn room(&self) -> Result<usize, Broken> {
        either!(self, link => link.room())
    }

    /// Writes entries for which there is room.
    pub(crate) fn write(&mut self, entries: &[u8]) -> Result<(), Broken> {
        either!(self, link => link.write(entries))
    }

    /// Lets the worker see what was written.
    pub(crate) fn publish(&mut self) {
        either!(self, link => link.publish())
    }

    /// Sends the arguments that the next entry announces.
    pub(crate) fn send(&self, message: SharedMessage) -> Result<(), SendFailure> {
        either!(self, link => link.send(message))
    }

    /// Has the worker wake the pool when it has something. Returns true if it may have had
    /// something before it knew.
    pub(crate) fn ask_for_wake(&mut self) -> bool {
        either!(self, link => link.ask_for_wake())
    }

    /// Takes that back: a thread is looking.
    pub(crate) fn forgo_wake(&mut self) {
        either!(self, link => link.forgo_wake())
    }

    pub(crate) fn has_ended(&self) -> bool {
        either!(self, link => link.has_ended())
    }

    /// How many bytes of the worker are resident.
    pub(crate) fn resident(&self) -> Option<u64> {
        either!(self, link => link.resident())
    }

    /// Drops the link to a worker that has ended, and returns how it ended.
    pub(crate) fn bury(self) -> Option<Death> {
        either!(self, link => link.bury())
    }

    /// Ends the worker, whatever it does.
    pub(crate) fn kill(&self) {
        either!(self, link => link.kill())
    }
}
