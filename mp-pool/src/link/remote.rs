//! The link to a worker of another host, over a carrier that takes letters to its node.
//!
//! A letter is a head and a body. The head says what it is; the body is entries or an encoded
//! value, which are long and are therefore copied as rarely as possible. A carrier delivers the
//! letters of a node in order, whole, and once.
//!
//! The node's host knows what a worker has begun, and this one learns it later. So what is known
//! here of a claim is never ahead of the truth, and calls are taken back by asking.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mp_core::raw::{Message, Outcome};
use mp_core::{ExitStatus, Panic};
use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::{Death, End, News, SendFailure};
use crate::board::{Broken, Claimed, NO_END};
use crate::error::TaskError;
use crate::wire::SharedMessage;

/// What goes to a node or comes from one.
#[derive(Debug)]
pub struct Letter {
    /// What it is, for mp-pool.
    pub head: Vec<u8>,
    /// What may be long.
    pub body: Body,
}

/// The long part of a [`Letter`].
#[derive(Debug)]
pub enum Body {
    /// Bytes, to arrive as they are.
    Bytes(Vec<u8>),
    /// A value, to arrive as its [encoded form](Message::to_vec).
    Message(Arc<Message>),
}

impl Letter {
    pub(crate) fn new(head: &impl Serialize, body: Body) -> Self {
        let mut bytes = Vec::new();
        // A head holds numbers and texts, which can be encoded.
        let _ = Message::append(head, &mut bytes, usize::MAX, None);
        Self { head: bytes, body }
    }

    pub(super) fn bare(head: &ToNode) -> Self {
        Self::new(head, Body::Bytes(Vec::new()))
    }
}

/// From the pool to a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToNode {
    Start {
        number: usize,
        place: usize,
    },
    /// To one worker.
    Worker(usize, ToRemote),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToRemote {
    /// The body is entries.
    Entries,
    /// The body is the arguments of a call whose entry says so.
    Arguments,
    /// See [`Link::take_back`](super::Link::take_back).
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

/// From one worker of a node to the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FromRemote {
    pub(crate) worker: usize,
    pub(crate) what: Told,
    /// The next call that the worker begins.
    pub(crate) next: u32,
    /// How many bytes of entries the worker was given.
    pub(crate) taken: u64,
    /// How much memory it uses, if that is of interest.
    pub(crate) resident: Option<u64>,
    /// The monotonic clock of the node.
    pub(crate) at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The worker was started, as this process.
    Started(u32),
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
    Ended(Ended),
}

/// How a worker ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) panic: Option<Panic>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum How {
    Code(i32),
    Signal {
        signal: i32,
        core_dumped: bool,
    },
    Unknown,
    NotStarted(String),
    /// What it wrote is no entry; it was killed.
    Broken,
}

impl From<&End> for How {
    fn from(end: &End) -> Self {
        match end {
            End::Exited(ExitStatus::Code(code)) => Self::Code(*code),
            End::Exited(ExitStatus::Signal { signal, core_dumped }) => {
                Self::Signal { signal: *signal, core_dumped: *core_dumped }
            }
            End::Exited(_) | End::Lost => Self::Unknown,
            End::NotStarted(why) => Self::NotStarted(why.clone()),
        }
    }
}

impl Ended {
    fn into_death(self) -> Death {
        let end = match self.how {
            How::Code(code) => End::Exited(ExitStatus::Code(code)),
            How::Signal { signal, core_dumped } => End::Exited(ExitStatus::Signal { signal, core_dumped }),
            How::Unknown | How::Broken => End::Exited(ExitStatus::Unknown),
            How::NotStarted(why) => End::NotStarted(why),
        };
        Death { end, panic: self.panic }
    }
}

/// What has come from a worker and was not taken.
#[derive(Default)]
pub(crate) struct Inbox {
    entries: Vec<u8>,
    outcomes: VecDeque<Result<(u32, Outcome), TaskError>>,
    news: VecDeque<News>,
    pid: u32,
    next: u32,
    taken: u64,
    resident: Option<u64>,
    pub(super) death: Option<Death>,
    is_broken: bool,
    /// The pool sleeps until something comes.
    wakes: bool,
}

/// What has to be done about something that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// It can wait until somebody looks.
    None,
    /// Results are to be delivered.
    Results,
    /// The supervisor is to look.
    Supervisor,
}

impl Inbox {
    /// Takes in what has come.
    pub(crate) fn take_in(&mut self, from: FromRemote, body: Vec<u8>) -> Urgency {
        self.taken = from.taken;
        self.resident = from.resident;
        // What the node said before it knew of an unfenced claim is older than what is known here.
        self.next = self.next.max(from.next);
        match from.what {
            Told::Started(pid) => self.pid = pid,
            Told::Results => {
                if self.entries.is_empty() {
                    self.entries = body;
                } else {
                    self.entries.extend_from_slice(&body);
                }
                return if std::mem::take(&mut self.wakes) { Urgency::Results } else { Urgency::None };
            }
            Told::Returned(position) => {
                self.outcomes.push_back(Ok((position, Outcome::Returned(Message::from_encoded(body)))));
            }
            Told::Failed(position, outcome) => self.outcomes.push_back(Ok((position, outcome))),
            Told::NotReceived(why) => self.outcomes.push_back(Err(TaskError::NotReceived(why))),
            Told::Progress => {}
            Told::News(news) => {
                self.news.push_back(news);
                return Urgency::Supervisor;
            }
            Told::Ended(ended) => {
                self.is_broken |= matches!(ended.how, How::Broken);
                self.death = Some(ended.into_death());
                return Urgency::Supervisor;
            }
        }
        Urgency::None
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many bytes of entries are under way to a worker at most: as many as its ring has room for.
const WINDOW: u64 = 64 << 10;

/// One worker of another host. No method sleeps.
pub(crate) struct Remote {
    cluster: Arc<Cluster>,
    node: usize,
    number: usize,
    inbox: Arc<Mutex<Inbox>>,
    /// Entries that were not published.
    letter: Vec<u8>,
    /// How many bytes of entries were written.
    written: u64,
    taking_back: bool,
}

impl Remote {
    pub(crate) fn start(cluster: &Arc<Cluster>, node: usize, number: usize, place: usize) -> Self {
        let inbox = cluster.start(node, number, place);
        Self { cluster: Arc::clone(cluster), node, number, inbox, letter: Vec::new(), written: 0, taking_back: false }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    fn say(&self, what: ToRemote, body: Body) {
        self.cluster.send(self.node, Letter::new(&ToNode::Worker(self.number, what), body));
    }

    fn tell(&self, what: ToRemote) {
        self.say(what, Body::Bytes(Vec::new()));
    }

    pub(super) fn name(&self) -> String {
        self.cluster.name(self.node, self.number)
    }

    pub(super) fn pid(&self) -> u32 {
        self.inbox().pid
    }

    pub(super) fn has_news(&self) -> bool {
        let inbox = self.inbox();
        !inbox.news.is_empty() || inbox.death.is_some()
    }

    pub(super) fn hear(&mut self) -> Result<News, Broken> {
        let mut inbox = self.inbox();
        let (news, is_broken) = (inbox.news.pop_front(), inbox.is_broken);
        drop(inbox);
        match news {
            Some(news @ News::TookBack(_)) => {
                self.taking_back = false;
                Ok(news)
            }
            Some(news) => Ok(news),
            None if is_broken => Err(Broken),
            None => Ok(News::Nothing),
        }
    }

    pub(super) fn outcome(&mut self, position: u32) -> Result<Result<Outcome, TaskError>, Broken> {
        match self.inbox().outcomes.pop_front() {
            Some(Ok((of, outcome))) if of == position => Ok(Ok(outcome)),
            Some(Err(error)) => Ok(Err(error)),
            _ => Err(Broken),
        }
    }

    pub(super) fn has_results(&self) -> bool {
        !self.inbox().entries.is_empty()
    }

    pub(super) fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken> {
        let mut inbox = self.inbox();
        entries.append(&mut inbox.entries);
        Ok(())
    }

    pub(super) fn claimed(&self) -> Claimed {
        Claimed { next: self.inbox().next, end: NO_END }
    }

    pub(super) fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool {
        let mut inbox = self.inbox();
        let is_there = inbox.next == from.next;
        inbox.next = to.next;
        drop(inbox);
        self.tell(ToRemote::Unfence { fence: from.next, next: to.next });
        is_there
    }

    pub(super) fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken> {
        let Range { start: answered, end } = sent;
        let begun = self.claimed().next.max(answered);
        if !self.taking_back && begun.saturating_add(keep) < end {
            self.taking_back = true;
            self.tell(ToRemote::TakeBack { answered, end, fenced, keep });
        }
        Ok(None)
    }

    pub(super) fn is_taking_back(&self) -> bool {
        self.taking_back
    }

    pub(super) fn room(&self) -> Result<usize, Broken> {
        let under_way = self.written.checked_sub(self.inbox().taken).ok_or(Broken)?;
        Ok(WINDOW.saturating_sub(under_way) as usize)
    }

    pub(super) fn write(&mut self, entries: &[u8]) -> Result<(), Broken> {
        self.letter.extend_from_slice(entries);
        self.written += entries.len() as u64;
        Ok(())
    }

    pub(super) fn publish(&mut self) {
        if !self.letter.is_empty() {
            let entries = std::mem::take(&mut self.letter);
            self.say(ToRemote::Entries, Body::Bytes(entries));
        }
    }

    pub(super) fn send(&self, message: SharedMessage) -> Result<(), SendFailure> {
        self.say(ToRemote::Arguments, Body::Message(message.0));
        Ok(())
    }

    pub(super) fn ask_for_wake(&mut self) -> bool {
        let mut inbox = self.inbox();
        if inbox.wakes {
            return false;
        }
        inbox.wakes = true;
        !inbox.entries.is_empty()
    }

    pub(super) fn forgo_wake(&mut self) {
        self.inbox().wakes = false;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.inbox().death.is_some()
    }

    pub(super) fn resident(&self) -> Option<u64> {
        self.inbox().resident
    }

    pub(super) fn bury(self) -> Option<Death> {
        self.inbox().death.take()
    }

    pub(super) fn kill(&self) {
        self.tell(ToRemote::Kill);
    }
}

/// However a link is dropped, no worker outlives it.
impl Drop for Remote {
    fn drop(&mut self) {
        self.cluster.forget(self.number);
        self.tell(ToRemote::Kill);
    }
}
