//! The link to a worker of another rank.
//!
//! The other host knows what a worker has begun, and this one learns it later. So what is known
//! here of a claim is never ahead of the truth, and calls are taken back by asking.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use mp_core::raw::{Message, Outcome};
use mp_pool::TaskError;
use mp_pool::raw::{Broken, Claimed, Death, Link, NO_END, News, SendFailure, now};

use crate::letter::{Body, FromWorker, ToRank, ToWorker, Told};
use crate::outbox::{Outbox, lock};

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
    /// What to add to the clock of its host to get this one's, as far as letters have shown.
    offset: Option<i64>,
    pub(crate) death: Option<Death>,
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
    pub(crate) fn take_in(&mut self, from: FromWorker, body: Vec<u8>) -> Urgency {
        self.taken = from.taken;
        self.resident = from.resident;
        // What the node said before it knew of an unfenced claim is older than what is known here.
        self.next = self.next.max(from.next);
        // The fastest letter is nearest to the truth.
        let seen = now().wrapping_sub(from.at) as i64;
        self.offset = Some(self.offset.map_or(seen, |before| before.min(seen)));
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
            Told::Ended { death, is_broken } => {
                self.is_broken = is_broken;
                self.death = Some(death);
                return Urgency::Supervisor;
            }
        }
        Urgency::None
    }
}

/// How many bytes of entries are under way to a worker at most: as many as its ring has room for.
const WINDOW: u64 = 64 << 10;

/// One worker of another rank.
pub(crate) struct Remote {
    outbox: Arc<Outbox>,
    rank: usize,
    number: usize,
    name: String,
    inbox: Arc<Mutex<Inbox>>,
    /// Entries that were not published.
    letter: Vec<u8>,
    /// How many bytes of entries were written.
    written: u64,
    taking_back: bool,
}

impl Remote {
    pub(crate) fn new(outbox: Arc<Outbox>, rank: usize, number: usize, name: String, inbox: Arc<Mutex<Inbox>>) -> Self {
        Self { outbox, rank, number, name, inbox, letter: Vec::new(), written: 0, taking_back: false }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    fn say(&self, what: ToWorker, body: Body) {
        self.outbox.send(self.rank, ToRank::Worker(self.number, what), body);
    }

    fn tell(&self, what: ToWorker) {
        self.say(what, Body::Bytes(Vec::new()));
    }
}

impl Link for Remote {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pid(&self) -> u32 {
        self.inbox().pid
    }

    fn has_news(&self) -> bool {
        let inbox = self.inbox();
        !inbox.news.is_empty() || inbox.death.is_some()
    }

    fn hear(&mut self) -> Result<News, Broken> {
        let inbox = &mut *lock(&self.inbox);
        if inbox.is_broken {
            return Err(Broken);
        }
        if let Some(outcome) = inbox.outcomes.pop_front() {
            return Ok(News::Outcome(outcome));
        }
        let news = inbox.news.pop_front().unwrap_or(News::Nothing);
        self.taking_back &= !matches!(news, News::TookBack(_));
        Ok(news)
    }

    fn has_results(&self) -> bool {
        !self.inbox().entries.is_empty()
    }

    fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken> {
        entries.append(&mut self.inbox().entries);
        Ok(())
    }

    fn claimed(&self) -> Claimed {
        Claimed { next: self.inbox().next, end: NO_END }
    }

    fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool {
        let before = std::mem::replace(&mut self.inbox().next, to.next);
        self.tell(ToWorker::Unfence { fence: from.next, next: to.next });
        before == from.next
    }

    fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken> {
        let Range { start: answered, end } = sent;
        let begun = self.claimed().next.max(answered);
        if !self.taking_back && begun.saturating_add(keep) < end {
            self.taking_back = true;
            self.tell(ToWorker::TakeBack { answered, end, fenced, keep });
        }
        Ok(None)
    }

    fn is_taking_back(&self) -> bool {
        self.taking_back
    }

    fn room(&self) -> Result<usize, Broken> {
        let under_way = self.written.checked_sub(self.inbox().taken).ok_or(Broken)?;
        Ok(WINDOW.saturating_sub(under_way) as usize)
    }

    fn write(&mut self, entries: &[u8]) -> Result<(), Broken> {
        self.letter.extend_from_slice(entries);
        self.written += entries.len() as u64;
        Ok(())
    }

    fn publish(&mut self) {
        if !self.letter.is_empty() {
            let entries = std::mem::take(&mut self.letter);
            self.say(ToWorker::Entries, Body::Bytes(entries));
        }
    }

    fn send(&self, message: Arc<Message>) -> Result<(), SendFailure> {
        self.say(ToWorker::Arguments, Body::Message(message));
        Ok(())
    }

    fn ask_for_wake(&mut self) -> bool {
        let mut inbox = self.inbox();
        !std::mem::replace(&mut inbox.wakes, true) && !inbox.entries.is_empty()
    }

    fn forgo_wake(&mut self) {
        self.inbox().wakes = false;
    }

    fn has_ended(&self) -> bool {
        self.inbox().death.is_some()
    }

    fn death(&mut self) -> Option<Death> {
        self.inbox().death.take()
    }

    fn resident(&self) -> Option<u64> {
        self.inbox().resident
    }

    fn clock_offset(&self) -> i64 {
        self.inbox().offset.unwrap_or(0)
    }

    fn kill(&self) {
        self.tell(ToWorker::Kill);
    }
}

/// However a link is dropped, no worker outlives it.
impl Drop for Remote {
    fn drop(&mut self) {
        self.tell(ToWorker::Kill);
    }
}
