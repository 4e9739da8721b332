//! The workers of a rank that is not 0.
//!
//! A [`Relays`] passes on what the pool says to its workers and what they say to the pool, and
//! decides nothing. Each worker has an ordinary link, and its calls have the numbers that the pool
//! gave them.
//!
//! What waits here for a worker is what its ring or its connection has no room for. The pool sends
//! no more entries than the ring holds, and two messages at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::raw::{Message, Outcome, error_chain};
use mp_core::{EncodeError, ExitStatus};
use mp_pool::TaskError;
use mp_pool::raw::{Broken, Claimed, Death, End, Link, NO_END, News, SendFailure, Workers, answers, now};
use serde::ser::Error as _;

use crate::letter::{FromWorker, ToRank, ToWorker, Told};

/// How often the memory of a worker is read.
const MEMORY_TICK: Duration = Duration::from_millis(20);

/// How many packets of a worker are taken in one turn.
const PACKETS: usize = 64;

/// How many outcomes may have come that no entry announces. An honest worker announces each right
/// after it has sent it, and in each turn all entries are read.
const MOST_UNANNOUNCED: usize = 4096;

/// Letters to the pool.
pub(crate) type Letters = Vec<(FromWorker, Vec<u8>)>;

/// The workers of this rank.
pub(crate) struct Relays {
    workers: Workers,
    relays: Vec<Relay>,
}

/// One worker.
struct Relay {
    number: usize,
    link: Box<dyn Link>,
    /// What there was no room for.
    entries: VecDeque<Vec<u8>>,
    messages: VecDeque<Arc<Message>>,
    /// How many bytes of entries the worker was given.
    taken: u64,
    /// How many calls it has answered, by their numbers.
    answered: u32,
    /// How many outcomes have come whose entries were not read.
    unannounced: usize,
    /// What the pool knows: the next call to begin, and the bytes.
    told: (u32, u64),
    silent: bool,
    broken: bool,
    resident: Option<u64>,
    measured: Option<Instant>,
}

impl Relays {
    /// Begins without workers, by the [setup](mp_pool::raw::setup) of the pool.
    pub(crate) fn new(setup: &mut [u8], hidden: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Ok(Self { workers: Workers::new(setup, hidden)?, relays: Vec::new() })
    }

    /// Takes in a letter from the pool.
    pub(crate) fn receive(&mut self, what: ToRank, body: Message, out: &mut Letters) -> Result<(), String> {
        match what {
            ToRank::Start { number, place } => match self.workers.start(number, place) {
                Ok(link) => self.relays.push(Relay::new(number, link, out)),
                Err(error) => {
                    let death = Death { end: End::NotStarted(error_chain(&error)), panic: None };
                    let what = Told::Ended { death, is_broken: false };
                    let from = FromWorker { worker: number, what, next: 0, taken: 0, resident: None, at: now() };
                    out.push((from, Vec::new()));
                }
            },
            ToRank::Worker(number, what) => {
                // Otherwise it has ended, and the pool does not know yet.
                if let Some(relay) = self.relays.iter_mut().find(|relay| relay.number == number) {
                    relay.receive(what, body, out)?;
                }
            }
        }
        Ok(())
    }

    /// Passes on what there is, and buries workers that have ended. Returns whether there was
    /// something.
    pub(crate) fn turn(&mut self, out: &mut Letters) -> bool {
        let (before, watches_memory) = (out.len(), self.workers.watches_memory());
        self.relays.retain_mut(|relay| {
            // What has ended before the turn writes no more.
            let has_ended = relay.link.has_ended();
            relay.turn(watches_memory, out);
            if has_ended {
                relay.bury(out);
            }
            !has_ended
        });
        out.len() > before
    }

    /// Sleeps until a worker says something or ends.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        mp_core::wait(&[&self.workers], Some(timeout)).map(drop)
    }

    /// Whether workers have something to do, so that it is worth looking at them often.
    pub(crate) fn is_busy(&self) -> bool {
        self.relays.iter().any(|relay| relay.link.claimed().next != relay.answered || !relay.entries.is_empty())
    }
}

impl Relay {
    fn new(number: usize, link: Box<dyn Link>, out: &mut Letters) -> Self {
        let mut relay = Self {
            number,
            link,
            entries: VecDeque::new(),
            messages: VecDeque::new(),
            taken: 0,
            answered: 0,
            unannounced: 0,
            told: (0, 0),
            silent: false,
            broken: false,
            resident: None,
            measured: None,
        };
        let started = Told::Started(relay.link.pid());
        relay.tell(started, Vec::new(), out);
        relay
    }

    /// Tells the pool something, and what the worker has begun until now.
    fn tell(&mut self, what: Told, body: Vec<u8>, out: &mut Letters) {
        let Self { number, taken, resident, .. } = *self;
        let next = self.link.claimed().next;
        self.told = (next, taken);
        out.push((FromWorker { worker: number, what, next, taken, resident, at: now() }, body));
    }

    fn receive(&mut self, what: ToWorker, body: Message, out: &mut Letters) -> Result<(), String> {
        let intact = match what {
            ToWorker::Entries => {
                self.entries.push_back(body.to_vec().map_err(|error| error_chain(&error))?);
                self.pass_on()
            }
            ToWorker::Arguments => {
                self.messages.push_back(Arc::new(body));
                self.pass_on()
            }
            ToWorker::TakeBack { answered, end, fenced, keep } => {
                self.link.take_back(answered..end, fenced, keep).map(|fence| {
                    // Results that are there belong before it.
                    self.turn(false, out);
                    self.tell(Told::News(News::TookBack(fence)), Vec::new(), out);
                })
            }
            ToWorker::Unfence { fence, next } => {
                let (from, to) = (Claimed { next: fence, end: fence }, Claimed { next, end: NO_END });
                let is_there = self.link.change_claim(from, to);
                self.answered = next;
                self.link.publish();
                if is_there { Ok(()) } else { Err(Broken) }
            }
            ToWorker::Kill => {
                self.link.kill();
                Ok(())
            }
        };
        self.check(intact);
        Ok(())
    }

    fn check(&mut self, intact: Result<(), Broken>) {
        if intact.is_err() && !self.broken {
            self.broken = true;
            self.link.kill();
        }
    }

    /// Gives the worker what it has room for.
    fn pass_on(&mut self) -> Result<(), Broken> {
        while let Some(message) = self.messages.front() {
            match self.link.send(Arc::clone(message)) {
                Ok(()) => {}
                Err(SendFailure::Full) => break,
                // Its end will be noticed.
                Err(SendFailure::Lost) => {}
                // There is no memory for it, and no entry that would say so.
                Err(SendFailure::Refused(_)) => return Err(Broken),
            }
            self.messages.pop_front();
        }
        let mut wrote = false;
        while let Some(entries) = self.entries.front() {
            if self.link.room()? < entries.len() {
                break;
            }
            self.link.write(entries)?;
            self.taken += entries.len() as u64;
            self.entries.pop_front();
            wrote = true;
        }
        if wrote {
            self.link.ask_for_wake();
            self.link.publish();
        }
        Ok(())
    }

    /// Passes on what there is.
    fn turn(&mut self, watches_memory: bool, out: &mut Letters) {
        if self.broken {
            return;
        }
        let mut intact = self.pass_on().and_then(|()| self.listen(out));
        // A worker that writes faster than this reads is looked at again in the next turn.
        for _ in 0..2 {
            if self.link.has_results() {
                if watches_memory {
                    self.measure();
                }
                intact = intact.and_then(|()| self.read(out));
            }
            if intact.is_err() || !self.link.ask_for_wake() {
                break;
            }
        }
        self.check(intact);
        let is_due = |measured: Instant| measured.elapsed() >= MEMORY_TICK;
        let measures = watches_memory && self.measured.is_none_or(is_due);
        if measures && self.measure() || (self.link.claimed().next, self.taken) != self.told {
            self.tell(Told::Progress, Vec::new(), out);
        }
    }

    /// Reads how much memory the worker uses; false if that is as it was.
    fn measure(&mut self) -> bool {
        self.measured = Some(Instant::now());
        let before = std::mem::replace(&mut self.resident, self.link.resident());
        before != self.resident
    }

    fn listen(&mut self, out: &mut Letters) -> Result<(), Broken> {
        for _ in 0..PACKETS {
            if self.silent || !self.hear(out)? {
                break;
            }
        }
        if self.unannounced > MOST_UNANNOUNCED { Err(Broken) } else { Ok(()) }
    }

    /// Passes on one thing that the worker has said; false if there is none.
    fn hear(&mut self, out: &mut Letters) -> Result<bool, Broken> {
        let (what, body) = match self.link.hear()? {
            News::Nothing => return Ok(false),
            News::Outcome(outcome) => {
                self.unannounced += 1;
                passable(outcome)
            }
            news => {
                self.silent = matches!(news, News::Silent);
                (Told::News(news), Vec::new())
            }
        };
        self.tell(what, body, out);
        Ok(true)
    }

    /// Passes results on, and before them what they announce.
    fn read(&mut self, out: &mut Letters) -> Result<(), Broken> {
        let mut entries = Vec::new();
        self.link.read(&mut entries)?;
        let (calls, announced) = answers(&entries)?;
        while self.unannounced < announced {
            if self.silent || !self.hear(out)? {
                return Err(Broken);
            }
        }
        self.unannounced -= announced;
        self.answered += calls;
        self.tell(Told::Results, entries, out);
        Ok(())
    }

    /// Tells the pool how the worker ended.
    fn bury(&mut self, out: &mut Letters) {
        let unknown = Death { end: End::Exited(ExitStatus::Unknown), panic: None };
        let death = self.link.death().unwrap_or(unknown);
        self.tell(Told::Ended { death, is_broken: self.broken }, Vec::new(), out);
    }
}

/// How a call ended, as it can be passed on.
fn passable(outcome: Result<(u32, Outcome), TaskError>) -> (Told, Vec<u8>) {
    match outcome {
        Ok((position, Outcome::Returned(message))) if message.has_descriptors() => {
            let error = EncodeError::custom("result: it has handles, which belong to one host");
            (Told::Failed(position, Outcome::UnencodableResult(error)), Vec::new())
        }
        Ok((position, Outcome::Returned(message))) => match message.to_vec() {
            Ok(bytes) => (Told::Returned(position), bytes),
            Err(error) => (Told::NotReceived(error_chain(&error)), Vec::new()),
        },
        Ok((position, outcome)) => (Told::Failed(position, outcome), Vec::new()),
        Err(TaskError::NotReceived(why)) => (Told::NotReceived(why), Vec::new()),
        Err(error) => (Told::NotReceived(error_chain(&error)), Vec::new()),
    }
}
