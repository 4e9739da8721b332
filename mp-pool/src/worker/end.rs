//! A worker's end of its link.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::process::exit;
use std::sync::Arc;

use mp_core::raw::{Message, Outcome, Spins, error_chain};
use mp_core::{Connection, EncodeError, Fd, SendErrorReason};
use mp_queue::ring::raw::{Consumer, Producer};
use mp_shm::raw::Region;

use crate::board::{Board, Claimed, Until};
use crate::packed::{self, Header, Kind, NOTIFY};
use crate::report::now;
use crate::wire::{ToPool, ToWorker};

/// A worker's end, as an argument.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct WorkerLink(pub(crate) Connection<ToPool, ToWorker>, pub(crate) Fd<OwnedFd>);

impl WorkerLink {
    pub(crate) fn open(self) -> WorkerEnd {
        let memory = Region::attach(self.1.into_inner()).unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        let (inbox, outbox) = Board::for_worker(memory).unwrap_or_else(|error| panic!("{error}"));
        WorkerEnd::new(self.0, inbox, outbox)
    }
}

pub(crate) struct WorkerEnd {
    connection: Connection<ToPool, ToWorker>,
    inbox: Consumer<Board>,
    outbox: Producer<Board>,
    /// What was taken from the board, and how much of it was looked at.
    entries: Vec<u8>,
    at: usize,
    /// Where the bytes of the last item are.
    place: Range<usize>,
    /// The number of the call whose entry comes next.
    position: u32,
    /// The messages that arrived before the entry that announces them.
    messages: VecDeque<Message>,
    spins: Spins,
    clock: Clock,
    /// An entry that is being made.
    scratch: Vec<u8>,
}

/// What a worker is to do next.
pub(crate) enum Item {
    /// To remember which function the calls that follow are of: [`bytes`](WorkerEnd::bytes) are its
    /// name, behind its time limit.
    Function,
    /// To run a call, whose arguments are [`bytes`](WorkerEnd::bytes).
    Inline(Run),
    /// To run a call with these arguments, or to answer that they could not be received.
    Message(Result<Message, String>, Run),
}

/// The number of a call that was claimed.
#[derive(Clone, Copy)]
pub(crate) struct Run(u32);

impl WorkerEnd {
    fn new(connection: Connection<ToPool, ToWorker>, inbox: Consumer<Board>, outbox: Producer<Board>) -> Self {
        Self {
            connection,
            inbox,
            outbox,
            entries: Vec::new(),
            at: 0,
            place: 0..0,
            position: 0,
            messages: VecDeque::new(),
            spins: Spins::new(),
            clock: Clock { since: None, calls: 0, one_by_one: true },
            scratch: Vec::new(),
        }
    }

    #[inline]
    fn board(&self) -> &Board {
        self.inbox.head()
    }

    pub(crate) fn ready(&self) {
        self.say(ToPool::Ready);
    }

    pub(crate) fn not_ready(&self, why: String) -> ! {
        self.say(ToPool::NotReady(why));
        exit(1)
    }

    /// Says something over the connection. Without it there is nothing to live for.
    fn say(&self, what: ToPool) {
        match self.connection.send(what).map_err(|error| error.reason) {
            Ok(()) => {}
            Err(SendErrorReason::Disconnected) => exit(0),
            Err(error) => panic!("the pool could not be told: {}", error_chain(&error)),
        }
    }

    /// The bytes of the entry that the last [`Item`] was.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.entries[self.place.clone()]
    }

    /// Claims the next call, and waits for one. It does not return when the pool is gone or wants
    /// the worker to end.
    #[inline]
    pub(crate) fn next(&mut self) -> Item {
        loop {
            if self.at == self.entries.len() {
                self.refill();
            }
            let header = self.header();
            self.place = header.bytes(self.at);
            match header.kind {
                Kind::Value | Kind::Message => {
                    let claimed = self.board().claim.get();
                    if claimed.next != self.position {
                        // The pool has taken it back.
                        self.skip(header);
                        continue;
                    }
                    let next = Claimed { next: claimed.next + 1, end: claimed.end };
                    if claimed.next >= claimed.end {
                        self.wait_for(|end| end.board().claim.get() != claimed);
                        continue;
                    }
                    if !self.board().claim.change(claimed, next) {
                        continue;
                    }
                    let run = Run(self.position);
                    self.at += header.whole();
                    self.position += 1;
                    self.clock.start();
                    if header.kind == Kind::Value {
                        return Item::Inline(run);
                    }
                    return Item::Message(self.message(), run);
                }
                Kind::Function => {
                    self.at += header.whole();
                    self.tell_time();
                    return Item::Function;
                }
                Kind::Filler => self.at += header.whole(),
                Kind::Notify => {
                    self.at += header.whole();
                    self.tell_time();
                    self.notify();
                }
                Kind::Exit => exit(0),
                _ => panic!("the pool sent an entry that is for pools"),
            }
        }
    }

    fn header(&self) -> Header {
        Header::at(&self.entries[self.at..]).unwrap_or_else(|| panic!("the pool sent what is no entry"))
    }

    #[cold]
    fn skip(&mut self, header: Header) {
        self.at += header.whole();
        self.position += 1;
        if header.kind == Kind::Message {
            drop(self.message());
        }
    }

    fn refill(&mut self) {
        self.wait_for(|end| !end.inbox.is_empty());
        self.entries.clear();
        self.at = 0;
        if let Err(damaged) = self.inbox.take(&mut self.entries) {
            panic!("{damaged}");
        }
    }

    /// Waits until something holds that the pool does.
    #[inline]
    fn wait_for(&mut self, holds: impl Fn(&Self) -> bool) {
        if !holds(self) {
            // What is done until here is all that the pool gets for now.
            self.tell_time();
            self.notify();
            self.wait(Until::More, holds);
        }
    }

    #[cold]
    fn wait(&mut self, until: Until, holds: impl Fn(&Self) -> bool) {
        let spins = std::mem::replace(&mut self.spins, Spins::new());
        let mut wait = spins.wait(true);
        while !holds(self) {
            if wait.sleeps() {
                self.board().worker_sleeps.set(until);
                if !holds(self) {
                    self.receive().unwrap_or_else(|why| panic!("the pool could not be heard: {why}"));
                }
                self.board().worker_sleeps.clear();
            }
            wait.in_vain();
        }
        wait.found();
        self.spins = spins;
    }

    /// Sleeps until the pool says something over the connection.
    fn receive(&mut self) -> Result<(), String> {
        match self.connection.recv() {
            Ok(ToWorker::Wake) => {}
            Ok(ToWorker::Message(message)) => self.messages.extend(Arc::into_inner(message.0)),
            Err(mp_core::RecvError::Disconnected) => exit(0),
            Err(error) => return Err(error_chain(&error)),
        }
        Ok(())
    }

    /// Receives the message that an entry announces, or says why that failed.
    fn message(&mut self) -> Result<Message, String> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            self.receive()?;
        }
    }

    /// Wakes the pool if it sleeps.
    #[inline]
    pub(crate) fn notify(&self) {
        if self.board().pool_sleeps.is_to_be_woken(Until::More) {
            self.say(ToPool::Wake);
        }
    }

    /// Answers a call: `entry` holds the value, unless there is an outcome of another kind. It is
    /// empty afterwards.
    #[inline]
    pub(crate) fn answer(&mut self, run: Run, outcome: Option<Outcome>, entry: &mut Vec<u8>) {
        if let Some(outcome) = outcome {
            entry.clear();
            self.encode(run, outcome, entry);
        }
        self.clock.calls += 1;
        let rest = &self.entries[self.at..];
        if self.clock.one_by_one || rest.is_empty() || rest.starts_with(&NOTIFY) {
            // With the result, so that the time is in the report when the result arrives.
            self.clock.append(entry);
        }
        self.put(entry);
    }

    pub(crate) fn answer_unreadable(&mut self, run: Run, why: &str, entry: &mut Vec<u8>) {
        entry.clear();
        packed::append_bytes(entry, Kind::Unreadable, why.as_bytes());
        self.answer(run, None, entry);
    }

    /// Encodes an outcome, into `entry` if it is short, and over the connection if not.
    #[cold]
    fn encode(&mut self, run: Run, outcome: Outcome, entry: &mut Vec<u8>) {
        let mut long = None;
        let encoded = packed::append(entry, |entry| {
            let is_message = matches!(outcome, Outcome::Returned(_));
            if is_message || Message::append(&outcome, entry, packed::MOST, None)?.is_some() {
                long = Some(());
                return Ok(Kind::Message);
            }
            Ok::<_, EncodeError>(Kind::Outcome)
        });
        let failure = match (encoded, long) {
            (Ok(()), None) => return,
            (Ok(()), Some(())) => match self.connection.send(ToPool::Outcome(run.0, outcome)) {
                Ok(()) => return,
                Err(error) => match error.reason {
                    SendErrorReason::Disconnected => exit(0),
                    // No descriptor was free to send the handles of the value with.
                    SendErrorReason::Encode(error) => error,
                    error => panic!("the result of a task could not be sent: {}", error_chain(&error)),
                },
            },
            (Err(error), _) => error,
        };
        entry.clear();
        let encoded = packed::append(entry, |entry| {
            Message::append(&Outcome::UnencodableResult(failure), entry, packed::MOST, None).map(|_| Kind::Outcome)
        });
        if let Err(error) = encoded {
            panic!("the result of a task could not be sent: {}", error_chain(&error));
        }
    }

    /// Says how long the calls took that were answered since the last time.
    #[inline]
    fn tell_time(&mut self) {
        let mut entry = std::mem::take(&mut self.scratch);
        self.clock.append(&mut entry);
        if !entry.is_empty() {
            self.put(&mut entry);
        }
        self.scratch = entry;
    }

    /// Writes an entry where the pool can read it from now on.
    #[inline]
    fn put(&mut self, entry: &mut Vec<u8>) {
        while !self.outbox.write(entry).unwrap_or_else(|damaged| panic!("{damaged}")) {
            self.notify();
            let length = entry.len();
            // What is damaged is found by writing.
            self.wait(Until::Room, |end| end.outbox.room().map_or(true, |room| room >= length));
        }
        self.outbox.publish();
        entry.clear();
    }
}

/// Measures how long calls take: each by itself if they are long, and many together if they are
/// short, since looking at the clock takes longer than some calls.
struct Clock {
    /// By the monotonic clock, in nanoseconds.
    since: Option<u64>,
    calls: u32,
    one_by_one: bool,
}

/// Calls that take longer than this on average are timed one by one, in nanoseconds.
const LONG: u64 = 2_000;

impl Clock {
    #[inline]
    fn start(&mut self) {
        if self.since.is_none() {
            self.since = Some(now());
        }
    }

    /// Appends how many nanoseconds the calls took that have ended since the start, and when that
    /// is, if there are any.
    #[inline]
    fn append(&mut self, entries: &mut Vec<u8>) {
        let (Some(since), calls) = (self.since.take(), std::mem::take(&mut self.calls)) else { return };
        let now = now();
        let took = now.saturating_sub(since);
        self.one_by_one = took > LONG * u64::from(calls);
        if calls > 0 {
            packed::append_bytes(entries, Kind::Time, [took.to_le_bytes(), now.to_le_bytes()].as_flattened());
        }
    }
}
