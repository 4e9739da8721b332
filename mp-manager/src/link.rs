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
//! 2. A call that is dropped without its answer leaves nothing; the answer is dropped when it
//!    comes.
//! 3. A sender that finds no room takes answers in, so that the server can go on.
//! 4. A connection that has ended is replaced by the next call, through the door.
//! 5. A copy of this process, made by `fork`, uses nothing of it.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::task::{Poll, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use mp_core::raw::{Deadline, forks};
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

    /// Sends a request: if it is `later`, together with others.
    pub(crate) fn begin(&self, request: Request, deadline: Deadline, later: bool) -> Result<Pending, CallError> {
        let wire = self.wire(deadline)?;
        let mut calls = lock(&wire.calls);
        let call = calls.open()?;
        calls.unsent.push(Request { call, ..request });
        let waits = later && calls.unsent.len() < TOGETHER;
        drop(calls);
        let pending = Pending { wire, call };
        if !waits {
            pending.wire.send(call, deadline)?;
        }
        Ok(pending)
    }

    /// Sends what has come together. What is not sent before the deadline goes with the next call.
    pub(crate) fn send_together(&self, deadline: Deadline) {
        let wire = if self.is_ours() { lock(&self.wire).clone() } else { None };
        if let Some(wire) = wire {
            // The calls learn an error as their answer.
            let _ = wire.send(NO_CALL, deadline);
        }
    }

    /// Sends a request that has no answer.
    pub(crate) fn post(&self, request: Request) -> Result<(), CallError> {
        self.wire(Deadline::NEVER)?.post(request)
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
        let wire = Arc::new(Wire { connection: mine, calls: Mutex::default(), forks: self.forks });
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
    calls: Mutex<Calls>,
    forks: u32,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    open: BTreeMap<u64, State>,
    /// Requests that are about to be sent together.
    unsent: Vec<Request>,
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

/// The longest wait for room before answers are taken in.
const LONGEST_WAIT_FOR_ROOM: Duration = Duration::from_millis(50);

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
    /// Sends what has come together. What is not sent before the deadline stays, but not the call
    /// `own`.
    fn send(&self, own: u64, deadline: Deadline) -> Result<(), CallError> {
        let mut packet = std::mem::take(&mut lock(&self.calls).unsent);
        if packet.is_empty() {
            return Ok(());
        }
        let mut patience = Duration::from_millis(1);
        loop {
            let wait = deadline.left().map_or(patience, |left| left.min(patience));
            match self.connection.send_timeout(packet, wait) {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.reason, SendErrorReason::TimedOut | SendErrorReason::Full) => {
                    packet = error.value;
                    if deadline.has_passed() {
                        packet.retain(|request| request.call != own);
                        lock(&self.calls).unsent.splice(0..0, packet);
                        return Err(CallError::TimedOut);
                    }
                }
                Err(error) => {
                    let why = not_sent(error.reason);
                    let mut calls = lock(&self.calls);
                    if matches!(why, CallError::Disconnected { .. }) {
                        calls.end();
                    } else {
                        let failed =
                            |request: Request| Response { call: request.call, body: Body::Failed(why.clone()) };
                        calls.deliver(error.value.into_iter().map(failed).collect());
                    }
                    return Err(why);
                }
            }
            self.take_in();
            patience = (patience * 2).min(LONGEST_WAIT_FOR_ROOM);
        }
    }

    fn post(&self, request: Request) -> Result<(), CallError> {
        lock(&self.calls).unsent.push(request);
        self.send(NO_CALL, Deadline::NEVER)
    }

    /// Sends what has come together, before a caller waits.
    fn sent(&self, deadline: Deadline) -> Result<MutexGuard<'_, Calls>, CallError> {
        if self.forks != forks() {
            return Err(CallError::Forked);
        }
        let calls = lock(&self.calls);
        if calls.unsent.is_empty() {
            return Ok(calls);
        }
        drop(calls);
        // The calls learn an error as their answer, or try again.
        let _ = self.send(NO_CALL, deadline);
        Ok(lock(&self.calls))
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

    /// Reads as long as tasks wait.
    fn read_for_tasks(&self) {
        let mut calls = lock(&self.calls);
        while !calls.reading && !calls.ended && calls.has_tasks() {
            calls = self.read(calls, Deadline::NEVER);
        }
        calls.pass_on();
    }
}

/// A call that was sent.
#[derive(Debug)]
pub(crate) struct Pending {
    wire: Arc<Wire>,
    call: u64,
}

impl Pending {
    /// Waits for the answer.
    pub(crate) fn finish(&self, deadline: Deadline) -> Result<Body, CallError> {
        let mut calls = self.wire.sent(deadline)?;
        loop {
            if let Some(answer) = calls.take(self.call) {
                return answer;
            }
            if deadline.has_passed() {
                calls.open.remove(&self.call);
                calls.unsent.retain(|request| request.call != self.call);
                calls.pass_on();
                return Err(CallError::TimedOut);
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

    /// Has the answer, or has `waker` woken when it is there.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<Body, CallError>> {
        let mut calls = match self.wire.sent(Deadline::NEVER) {
            Ok(calls) => calls,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(answer) = calls.take(self.call) {
            return Poll::Ready(answer);
        }
        calls.open.insert(self.call, State::Awaited(Waiter::Task(waker.clone())));
        if !calls.reading {
            let wire = Arc::clone(&self.wire);
            let reader = thread::Builder::new().name("mp-manager reader".to_owned());
            // The thread gets the lock only after this one has released it.
            if let Err(error) = reader.spawn(move || wire.read_for_tasks()) {
                calls.open.remove(&self.call);
                return Poll::Ready(Err(CallError::Busy(format!("no thread can be started here: {error}"))));
            }
        }
        Poll::Pending
    }

    /// Tells the server whether the value that answered this call has arrived.
    pub(crate) fn acknowledge(&self, object: u64, arrived: bool) {
        let operation = Operation::Acknowledge { call: self.call, arrived };
        // If the connection has ended, the server has taken the value back.
        let _ = self.wire.post(Request { call: NO_CALL, object, timeout: None, operation });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.wire.forks == forks() {
            lock(&self.wire.calls).open.remove(&self.call);
        }
    }
}
