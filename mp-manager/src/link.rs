//! The connection of this process with a server, and the calls on it.
//!
//! | a call is | left by |
//! |---|---|
//! | sent, and nobody waits | a waiter comes: to waited for. The answer comes: to answered |
//! | waited for, by a thread or a task | the answer comes, or the connection ends: to answered |
//! | answered | its waiter takes the answer: gone |
//!
//! 1. Of all threads that wait, one reads: it waits for the socket and gives each answer to its
//!    call. When it has its own answer, it wakes another waiter, which reads on.
//!    Tasks do not read: as long as one waits and no thread reads, a thread is started that does.
//!    Nor do they wait for room: if there is none when a task is polled, a thread sends for it.
//! 2. A call that is dropped without its answer leaves nothing; the answer is dropped when it
//!    comes.
//! 3. Requests are sent in their order, whoever sends them. A sender that finds no room takes
//!    answers in, so that the server can go on.
//! 4. A connection that has ended is replaced by the next call, through the door.
//! 5. A copy of this process, made by `fork`, uses nothing of it.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::task::{Poll, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use mp_core::raw::{Deadline, forks, writable};
use mp_core::{RecvError, SendErrorReason, Sender, duplex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CallError;
use crate::mutex::lock;
use crate::value::{Inode, inode};
use crate::wire::{Announced, Body, ClientsEnd, NO_CALL, Operation, Request, Response, ServersEnd, TOGETHER};

/// The way to one server.
#[derive(Debug)]
pub struct Link {
    door: Sender<ServersEnd>,
    forks: u32,
    wire: Mutex<Option<Arc<Wire>>>,
}

/// The links of this process, by the socket of their door.
static LINKS: Mutex<Option<HashMap<Inode, Weak<Link>>>> = Mutex::new(None);

impl Link {
    /// Returns the link through `door`: the one that this process has, or a new one.
    pub(crate) fn through(door: Sender<ServersEnd>) -> std::io::Result<Arc<Self>> {
        let inode = inode(door.as_fd())?;
        let mut links = match LINKS.try_lock() {
            // In a copy made by fork, the thread that has the lock may not exist. A link that is
            // not in the table costs one more connection.
            Err(TryLockError::WouldBlock) if forks() > 0 => return Ok(Arc::new(Self::new(door))),
            Err(TryLockError::WouldBlock) => lock(&LINKS),
            Ok(links) => links,
            Err(TryLockError::Poisoned(links)) => links.into_inner(),
        };
        let links = links.get_or_insert_default();
        if let Some(link) = links.get(&inode).and_then(Weak::upgrade).filter(|link| link.forks == forks()) {
            return Ok(link);
        }
        links.retain(|_, link| link.strong_count() > 0);
        let link = Arc::new(Self::new(door));
        // The inode is not used again while the link has the door open.
        links.insert(inode, Arc::downgrade(&link));
        Ok(link)
    }

    fn new(door: Sender<ServersEnd>) -> Self {
        Self { door, forks: forks(), wire: Mutex::default() }
    }

    /// Tells whether this process made the link, and is no copy of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.forks == forks()
    }

    /// Sends a request: if it is `later`, together with others. If it may wait in the server, only
    /// sending it has the deadline.
    pub(crate) fn begin(&self, request: Request, deadline: Deadline, later: bool) -> Result<Pending, CallError> {
        let wire = self.wire(deadline)?;
        let answered_by = if request.operation.may_wait() { Deadline::NEVER } else { deadline };
        let call = lock(&wire.calls).open()?;
        let mut unsent = lock(&wire.unsent);
        unsent.requests.push(Request { call, ..request });
        let waits = later && unsent.requests.len() < TOGETHER;
        drop(unsent);
        let pending = Pending { wire, call, deadline: answered_by };
        if waits || pending.wire.send(deadline) { Ok(pending) } else { Err(pending.too_late()) }
    }

    /// Sends what has come together. What is not sent before the deadline goes with the next call.
    pub(crate) fn send_together(&self, deadline: Deadline) {
        let wire = if self.is_ours() { lock(&self.wire).clone() } else { None };
        if let Some(wire) = wire {
            wire.send(deadline);
        }
    }

    /// Sends a request that has no answer.
    pub(crate) fn post(&self, request: Request) -> Result<(), CallError> {
        self.wire(Deadline::NEVER).map(|wire| wire.post(request))
    }

    fn wire(&self, deadline: Deadline) -> Result<Arc<Wire>, CallError> {
        if !self.is_ours() {
            return Err(CallError::Forked);
        }
        let open = |current: &Option<Arc<Wire>>| current.clone().filter(|wire| !lock(&wire.calls).ended);
        let found = open(&lock(&self.wire));
        if let Some(wire) = found {
            return Ok(wire);
        }
        // Without the lock, so that each thread waits for its own deadline. If two threads do it at
        // once, the first connection is used, and the other one closed.
        let mine = self.connect(deadline)?;
        let mut current = lock(&self.wire);
        if let Some(wire) = open(&current) {
            return Ok(wire);
        }
        let (unsent, calls) = (Mutex::default(), Mutex::default());
        let wire = Arc::new(Wire { connection: mine, unsent, calls, forks: self.forks });
        *current = Some(Arc::clone(&wire));
        Ok(wire)
    }

    /// Makes a connection of its own.
    pub(crate) fn connect(&self, deadline: Deadline) -> Result<ClientsEnd, CallError> {
        let (mine, theirs) = duplex().map_err(|error| CallError::Busy(format!("no socket is free here: {error}")))?;
        let wait = deadline.left().unwrap_or(Duration::MAX);
        self.door.send_timeout(theirs, wait).map_err(|error| not_sent(error.reason))?;
        Ok(mine)
    }
}

fn not_sent(reason: SendErrorReason) -> CallError {
    match reason {
        SendErrorReason::Encode(error) => CallError::Encode(error),
        SendErrorReason::TimedOut | SendErrorReason::Full => CallError::TimedOut,
        SendErrorReason::Io(error) => CallError::Busy(format!("the call could not be sent: {error}")),
        _ => CallError::Disconnected { sent: false },
    }
}

pub(crate) fn serialize<S: Serializer>(link: &Arc<Link>, serializer: S) -> Result<S::Ok, S::Error> {
    link.door.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Link>, D::Error> {
    Link::through(Sender::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// One connection.
#[derive(Debug)]
struct Wire {
    connection: ClientsEnd,
    /// Locked before `calls`.
    unsent: Mutex<Unsent>,
    calls: Mutex<Calls>,
    forks: u32,
}

/// Requests that are about to be sent together, in this order.
#[derive(Debug, Default)]
struct Unsent {
    requests: Vec<Request>,
    /// A thread sends them for tasks.
    tended: bool,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    open: BTreeMap<u64, State>,
    announced: Announced,
    /// A thread reads.
    reading: bool,
    ended: bool,
}

#[derive(Debug)]
enum State {
    Sent,
    Awaited(Waiter),
    Answered(Body),
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    Thread(Thread),
    Task(Waker),
}

impl Waiter {
    fn wake(&self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            // A panic of a waker concerns only its own task.
            Self::Task(waker) => drop(catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref()))),
        }
    }
}

/// How long a sender waits for room before it takes answers in: at first, and at most.
const WAIT_FOR_ROOM: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(50));

impl Calls {
    fn open(&mut self) -> Result<u64, CallError> {
        if self.ended {
            return Err(CallError::Disconnected { sent: false });
        }
        self.last += 1;
        self.open.insert(self.last, State::Sent);
        Ok(self.last)
    }

    /// Gives each answer that has arrived to its call; false if none has.
    fn arrived(&mut self, received: Result<Option<Vec<Response>>, RecvError>) -> bool {
        match self.announced.check(received) {
            Ok(Some(responses)) => self.deliver(responses),
            Ok(None) => return false,
            Err(_) => self.end(),
        }
        true
    }

    fn deliver(&mut self, responses: Vec<Response>) {
        let answers = responses.into_iter().filter(|response| !matches!(response.body, Body::Follows));
        for Response { call, body } in answers {
            if let Some(state) = self.open.get_mut(&call) {
                if let State::Awaited(waiter) = std::mem::replace(state, State::Answered(body)) {
                    waiter.wake();
                }
            }
        }
    }

    /// Takes the answer of a call, or the error if none will come; `None` if it may still come.
    fn take(&mut self, call: u64) -> Option<Result<Body, CallError>> {
        if let Some(State::Answered(_)) = self.open.get(&call) {
            let Some(State::Answered(body)) = self.open.remove(&call) else { return None };
            self.pass_on();
            return Some(Ok(body));
        }
        self.ended.then_some(Err(CallError::Disconnected { sent: true }))
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.open.values().filter_map(|state| match state {
            State::Awaited(waiter) => Some(waiter),
            _ => None,
        })
    }

    /// If no thread reads, wakes one that waits, to read.
    fn pass_on(&self) {
        if let Some(waiter) = self.waiters().next().filter(|_| !self.reading) {
            waiter.wake();
        }
    }

    fn has_tasks(&self) -> bool {
        self.waiters().any(|waiter| matches!(waiter, Waiter::Task(_)))
    }

    fn end(&mut self) {
        self.ended = true;
        self.waiters().for_each(Waiter::wake);
    }
}

impl Wire {
    /// Sends what has come together. What is not sent before the deadline stays, and then it
    /// returns false.
    fn send(&self, deadline: Deadline) -> bool {
        let (mut patience, longest) = WAIT_FOR_ROOM;
        while !self.send_some() {
            if deadline.has_passed() {
                return false;
            }
            self.take_in();
            self.wait_for_room(deadline.left().map_or(patience, |left| left.min(patience)));
            patience = (patience * 2).min(longest);
        }
        true
    }

    /// Sends what there is room for; false if something is left. Under the lock, so the requests
    /// arrive in their order. Calls that cannot be sent learn why as their answer.
    fn send_some(&self) -> bool {
        let requests = &mut lock(&self.unsent).requests;
        while !requests.is_empty() {
            let rest = requests.split_off(requests.len().min(TOGETHER));
            let Err(error) = self.connection.try_send(std::mem::replace(requests, rest)) else { continue };
            if matches!(error.reason, SendErrorReason::Full) {
                requests.splice(0..0, error.value);
                return false;
            }
            let why = not_sent(error.reason);
            let failed = |request: Request| Response { call: request.call, body: Body::Failed(why.clone()) };
            let mut calls = lock(&self.calls);
            calls.deliver(error.value.into_iter().map(failed).collect());
            if matches!(why, CallError::Disconnected { .. }) {
                calls.end();
            }
        }
        true
    }

    fn wait_for_room(&self, pause: Duration) {
        match writable(self.connection.as_fd(), Deadline::PASSED) {
            Ok(false) => drop(writable(self.connection.as_fd(), Deadline::after(pause))),
            // Long values wait to be read, and only time tells when they were.
            _ => thread::sleep(pause),
        }
    }

    fn post(&self, request: Request) {
        lock(&self.unsent).requests.push(request);
        self.send(Deadline::NEVER);
    }

    /// Receives the answers that have arrived, unless another thread reads.
    fn take_in(&self) {
        let mut calls = lock(&self.calls);
        while !calls.reading && !calls.ended && calls.arrived(self.connection.try_recv()) {}
    }

    /// Waits for answers, and gives each to its call.
    fn read<'a>(&'a self, mut calls: MutexGuard<'a, Calls>, deadline: Deadline) -> MutexGuard<'a, Calls> {
        calls.reading = true;
        drop(calls);
        let received = match deadline.left() {
            None => self.connection.recv().map(Some),
            Some(left) => self.connection.recv_timeout(left),
        };
        calls = lock(&self.calls);
        calls.reading = false;
        calls.arrived(received);
        calls
    }

    /// Sends what there was no room for when a task was polled, and reads as long as tasks wait.
    fn work_for_tasks(&self, mut sends: bool) {
        while sends {
            self.send(Deadline::NEVER);
            let mut unsent = lock(&self.unsent);
            sends = !unsent.requests.is_empty();
            unsent.tended = sends;
        }
        let mut calls = lock(&self.calls);
        while !calls.reading && !calls.ended && calls.has_tasks() {
            calls = self.read(calls, Deadline::NEVER);
        }
        calls.pass_on();
    }

    /// Tells whether a thread has to be started that sends for tasks.
    fn lacks_sender(&self) -> bool {
        let mut unsent = lock(&self.unsent);
        let lacks = !unsent.tended && !unsent.requests.is_empty();
        unsent.tended |= lacks;
        lacks
    }
}

/// A call that was sent.
#[derive(Debug)]
pub(crate) struct Pending {
    wire: Arc<Wire>,
    call: u64,
    deadline: Deadline,
}

impl Pending {
    /// Waits for the answer.
    pub(crate) fn finish(&self) -> Result<Body, CallError> {
        self.check()?;
        let deadline = self.deadline;
        self.wire.send(deadline);
        let mut calls = lock(&self.wire.calls);
        loop {
            if let Some(answer) = calls.take(self.call) {
                return answer;
            }
            if deadline.has_passed() {
                calls.open.remove(&self.call);
                calls.pass_on();
                drop(calls);
                return Err(self.too_late());
            }
            if !calls.reading {
                calls = self.wire.read(calls, deadline);
                continue;
            }
            calls.open.insert(self.call, State::Awaited(Waiter::Thread(thread::current())));
            drop(calls);
            match deadline.left() {
                None => thread::park(),
                Some(left) => thread::park_timeout(left),
            }
            calls = lock(&self.wire.calls);
        }
    }

    /// Has the answer, or has `waker` woken when it is there. Waits neither for it nor for room.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<Body, CallError>> {
        if let Err(error) = self.check() {
            return Poll::Ready(Err(error));
        }
        let sent = self.wire.send(Deadline::PASSED);
        let mut calls = lock(&self.wire.calls);
        if let Some(answer) = calls.take(self.call) {
            return Poll::Ready(answer);
        }
        calls.open.insert(self.call, State::Awaited(Waiter::Task(waker.clone())));
        let has_reader = calls.reading;
        drop(calls);
        let lacks_sender = !sent && self.wire.lacks_sender();
        if lacks_sender || !has_reader {
            let wire = Arc::clone(&self.wire);
            let work = move || wire.work_for_tasks(lacks_sender);
            if let Err(error) = thread::Builder::new().name("mp-manager tasks".to_owned()).spawn(work) {
                lock(&self.wire.unsent).tended &= !lacks_sender;
                lock(&self.wire.calls).open.remove(&self.call);
                return Poll::Ready(Err(CallError::Busy(format!("no thread can be started here: {error}"))));
            }
        }
        Poll::Pending
    }

    fn check(&self) -> Result<(), CallError> {
        if self.wire.forks == forks() { Ok(()) } else { Err(CallError::Forked) }
    }

    /// It is not sent any more, if it has not been.
    fn too_late(&self) -> CallError {
        lock(&self.wire.unsent).requests.retain(|request| request.call != self.call);
        CallError::TimedOut
    }

    /// Tells the server whether the value that answered this call has arrived.
    pub(crate) fn acknowledge(&self, object: u64, arrived: bool) {
        let operation = Operation::Acknowledge { call: self.call, arrived };
        // If the connection has ended, the server has taken the value back.
        self.wire.post(Request { call: NO_CALL, object, timeout: None, operation });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.wire.forks == forks() {
            lock(&self.wire.calls).open.remove(&self.call);
        }
    }
}
