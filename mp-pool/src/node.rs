//! The workers of one host for the pool of another one.
//!
//! A [`Node`] passes on what the pool says to its workers and what they say to the pool, and
//! decides nothing. Each worker has an ordinary local link, and its calls have the numbers that the
//! pool gave them.
//!
//! What waits here for a worker is what its ring or its connection has no room for. The pool sends
//! no more entries than the ring holds, and two messages at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::raw::{Message, Outcome, decode_plain, error_chain};
use mp_core::{EncodeError, SpawnError};
use serde::ser::Error as _;

use crate::board::{Broken, Claimed, NO_END};
use crate::error::TaskError;
use crate::events::Events;
use crate::link::remote::{Body, Ended, FromRemote, How, Letter, ToNode, ToRemote, Told};
use crate::link::{Death, End, Local, News, SendFailure, start};
use crate::packed::{Header, Kind};
use crate::report::now;
use crate::settings::{Portable, Settings};
use crate::wire::SharedMessage;

/// How often the memory of a worker is read.
const MEMORY_TICK: Duration = Duration::from_millis(20);

/// How many packets of a worker are taken in one turn.
const PACKETS: usize = 64;

/// The workers of this host for the pool of another one.
pub struct Node {
    settings: Settings,
    watches_memory: bool,
    relays: Vec<Relay>,
    events: Arc<Events>,
}

/// One worker.
struct Relay {
    number: usize,
    link: Local,
    /// What there was no room for.
    entries: VecDeque<Vec<u8>>,
    messages: VecDeque<SharedMessage>,
    /// How many bytes of entries the worker was given.
    taken: u64,
    /// How many calls it has answered, by their numbers.
    answered: u32,
    /// What the pool knows: the next call to begin, and the bytes.
    told: (u32, u64),
    silent: bool,
    broken: bool,
    resident: Option<u64>,
    measured: Option<Instant>,
}

impl Node {
    /// Makes a node without workers, by the [setup](crate::raw::setup) of a pool. Its workers do
    /// not have the environment variables in `hidden`.
    ///
    /// # Errors
    ///
    /// The bytes are not such a setup.
    pub fn new(setup: &mut [u8], hidden: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, String> {
        let portable: Portable = decode_plain(setup).map_err(|error| error_chain(&error))?;
        let watches_memory = portable.watches_memory();
        let mut settings = portable.into_settings();
        settings.hide(hidden);
        let events = Events::new().map_err(|error| format!("there is nothing to wait with: {error}"))?;
        Ok(Self { settings, watches_memory, relays: Vec::new(), events: Arc::new(events) })
    }

    /// Returns how many workers have not ended.
    pub fn workers(&self) -> usize {
        self.relays.len()
    }

    /// Takes in a letter from the pool.
    ///
    /// # Errors
    ///
    /// The letter is none of a pool.
    pub fn receive(&mut self, head: &mut [u8], body: Message, out: &mut Vec<Letter>) -> Result<(), String> {
        match decode_plain(head).map_err(|error| error_chain(&error))? {
            ToNode::Start { number, place } => {
                match start(&self.settings, number, place, &self.events) {
                    Ok(link) => self.relays.push(Relay::new(number, link, out)),
                    Err(error) => out.push(not_started(number, &error)),
                }
                Ok(())
            }
            ToNode::Worker(number, what) => match self.relays.iter_mut().find(|relay| relay.number == number) {
                Some(relay) => relay.receive(what, body, out),
                // It has ended, and the pool does not know yet.
                None => Ok(()),
            },
        }
    }

    /// Passes on what there is, and buries workers that have ended. Returns whether there was
    /// something.
    pub fn turn(&mut self, out: &mut Vec<Letter>) -> bool {
        let (before, mut some) = (out.len(), false);
        for relay in &mut self.relays {
            some |= relay.turn(self.watches_memory, out);
        }
        let mut index = 0;
        while index < self.relays.len() {
            if self.relays[index].link.has_ended() {
                let mut relay = self.relays.swap_remove(index);
                // Its last results: it writes no more.
                relay.turn(self.watches_memory, out);
                relay.bury(out);
            } else {
                index += 1;
            }
        }
        some || out.len() > before
    }

    /// Sleeps until a worker says something or ends.
    ///
    /// # Errors
    ///
    /// There is no memory for the kernel's table.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        mp_core::wait(&[&*self.events], Some(timeout)).map(drop)
    }

    /// Tells whether workers have something to do, so that it is worth looking at them often.
    pub fn is_busy(&self) -> bool {
        self.relays.iter().any(|relay| relay.given() != relay.answered || !relay.entries.is_empty())
    }
}

fn not_started(number: usize, error: &SpawnError) -> Letter {
    let what = Told::Ended(Ended { how: How::NotStarted(error_chain(error)), panic: None });
    let from = FromRemote { worker: number, what, next: 0, taken: 0, resident: None, at: now() };
    Letter::new(&from, Body::Bytes(Vec::new()))
}

impl Relay {
    fn new(number: usize, link: Local, out: &mut Vec<Letter>) -> Self {
        let relay = Self {
            number,
            link,
            entries: VecDeque::new(),
            messages: VecDeque::new(),
            taken: 0,
            answered: 0,
            told: (0, 0),
            silent: false,
            broken: false,
            resident: None,
            measured: None,
        };
        let started = Told::Started(relay.link.pid());
        out.push(relay.letter(started, Vec::new(), 0));
        relay
    }

    /// The next call that begins, as far as the pool has to know.
    fn given(&self) -> u32 {
        self.link.claimed().next
    }

    fn letter(&self, what: Told, body: Vec<u8>, next: u32) -> Letter {
        let Self { number, taken, resident, .. } = *self;
        let from = FromRemote { worker: number, what, next, taken, resident, at: now() };
        Letter::new(&from, Body::Bytes(body))
    }

    /// Tells the pool something, and what the worker has begun until now.
    fn tell(&mut self, what: Told, body: Vec<u8>, out: &mut Vec<Letter>) {
        let next = self.link.claimed().next;
        self.told = (next, self.taken);
        out.push(self.letter(what, body, next));
    }

    fn receive(&mut self, what: ToRemote, body: Message, out: &mut Vec<Letter>) -> Result<(), String> {
        let intact = match what {
            ToRemote::Entries => {
                self.entries.push_back(body.to_vec().map_err(|error| error_chain(&error))?);
                self.pass_on()
            }
            ToRemote::Arguments => {
                self.messages.push_back(SharedMessage(Arc::new(body)));
                self.pass_on()
            }
            ToRemote::TakeBack { answered, end, fenced, keep } => {
                self.link.take_back(answered..end, fenced, keep).map(|fence| {
                    // Results that are there belong before it.
                    self.turn(false, out);
                    self.tell(Told::News(News::TookBack(fence)), Vec::new(), out);
                })
            }
            ToRemote::Unfence { fence, next } => {
                let (from, to) = (Claimed { next: fence, end: fence }, Claimed { next, end: NO_END });
                let is_there = self.link.change_claim(from, to);
                self.answered = next;
                self.link.publish();
                if is_there { Ok(()) } else { Err(Broken) }
            }
            ToRemote::Kill => {
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
            match self.link.send(message.clone()) {
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

    /// Passes on what there is. Returns whether there was something.
    fn turn(&mut self, watches_memory: bool, out: &mut Vec<Letter>) -> bool {
        let before = out.len();
        if self.broken {
            return false;
        }
        let mut intact = self.pass_on();
        intact = intact.and_then(|()| self.listen(out));
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
        let now = (self.link.claimed().next, self.taken);
        if measures && self.measure() || now != self.told {
            self.tell(Told::Progress, Vec::new(), out);
        }
        out.len() > before
    }

    /// Reads how much memory the worker uses; false if that is as it was.
    fn measure(&mut self) -> bool {
        self.measured = Some(Instant::now());
        let before = std::mem::replace(&mut self.resident, self.link.resident());
        before != self.resident
    }

    fn listen(&mut self, out: &mut Vec<Letter>) -> Result<(), Broken> {
        for _ in 0..PACKETS {
            if self.silent {
                return Ok(());
            }
            let news = self.link.hear()?;
            match news {
                News::Nothing => return Ok(()),
                News::Silent => self.silent = true,
                _ => {}
            }
            self.tell(Told::News(news), Vec::new(), out);
        }
        Ok(())
    }

    /// Passes results on, and before them what they announce.
    fn read(&mut self, out: &mut Vec<Letter>) -> Result<(), Broken> {
        let mut entries = Vec::new();
        self.link.read(&mut entries)?;
        let mut at = 0;
        while at < entries.len() {
            let header = Header::at(&entries[at..]).ok_or(Broken)?;
            at += header.whole();
            match header.kind {
                Kind::Value | Kind::Outcome | Kind::Unreadable => self.answered += 1,
                Kind::Message => {
                    let outcome = self.link.outcome(self.answered)?;
                    let (told, body) = self.announced(outcome);
                    self.tell(told, body, out);
                    self.answered += 1;
                }
                _ => {}
            }
        }
        self.tell(Told::Results, entries, out);
        Ok(())
    }

    /// How a call ended whose entry says that it is a message.
    fn announced(&self, outcome: Result<Outcome, TaskError>) -> (Told, Vec<u8>) {
        match outcome {
            Ok(Outcome::Returned(message)) if message.has_descriptors() => {
                let error = EncodeError::custom("result: it has handles, which belong to one host");
                (Told::Failed(self.answered, Outcome::UnencodableResult(error)), Vec::new())
            }
            Ok(Outcome::Returned(message)) => match message.to_vec() {
                Ok(bytes) => (Told::Returned(self.answered), bytes),
                Err(error) => (Told::NotReceived(error_chain(&error)), Vec::new()),
            },
            Ok(outcome) => (Told::Failed(self.answered, outcome), Vec::new()),
            Err(TaskError::NotReceived(why)) => (Told::NotReceived(why), Vec::new()),
            Err(error) => (Told::NotReceived(error_chain(&error)), Vec::new()),
        }
    }

    /// Tells the pool how the worker ended.
    fn bury(self, out: &mut Vec<Letter>) {
        let Self { number, taken, resident, broken, .. } = self;
        let next = self.link.claimed().next;
        let Death { end, panic } = self.link.bury().unwrap_or(Death { end: End::unknown(), panic: None });
        let how = if broken { How::Broken } else { How::from(&end) };
        let what = Told::Ended(Ended { how, panic });
        let from = FromRemote { worker: number, what, next, taken, resident, at: now() };
        out.push(Letter::new(&from, Body::Bytes(Vec::new())));
    }
}
