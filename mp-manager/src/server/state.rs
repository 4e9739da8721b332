//! The server: its clients, its objects, and what a request does to them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::raw::{Message, Outcome, RawFunction};
use mp_core::{Fd, Receiver, RecvError};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::client::{Client, Sending};
use super::content::{Content, Modification, Step};
use super::waiting::{Answers, Waiter};
use super::{DOOR, Limits};
use crate::error::CallError;
use crate::value::{Anchor, Known, LEASE, Reference, Value, Watch};
use crate::wire::{Body, Initial, ObjectInfo, Operation, Place, Request, ServersEnd, Timeout};

/// The last two bits of the number under which the set reports a client.
pub(super) const CLIENT: u64 = 2;

/// How many calls of a client may wait for objects.
const MOST_PARKED: usize = 1 << 16;

/// How many requests of a client are served before others have their turn.
const TURN: usize = 64;

/// How many clients are let in at once.
const ENTRIES: usize = 64;

/// How often a client is tried again that has read none of its long answers.
const RETRY: Duration = Duration::from_millis(20);

pub(super) struct State {
    /// `None` once the server has ended.
    door: Option<Receiver<ServersEnd>>,
    _stop: Receiver<()>,
    watch: Arc<Watch>,
    limits: Limits,
    known: Known,
    clients: HashMap<u64, Client>,
    objects: HashMap<u64, Object>,
    names: HashMap<String, Reference>,
    /// The last number that a client or an object got.
    last: u64,
    jobs: VecDeque<Job>,
    /// When calls give up waiting, and for which object.
    timers: BTreeMap<(Instant, Waiter), u64>,
    /// Clients that were seen to have ended.
    dead: Vec<u64>,
    lacking_credit: HashSet<u64>,
    /// Objects that were removed.
    gone: Vec<Object>,
}

pub(super) struct Object {
    anchor: Arc<Anchor>,
    interface: String,
    content: Content,
    /// A function that changes it runs.
    busy: bool,
    /// What arrived meanwhile.
    waiting: VecDeque<(u64, Request)>,
}

/// A function to run.
pub(super) struct Job {
    client: u64,
    call: u64,
    object: u64,
    place: Place,
    function: String,
    values: Option<(Option<Value>, Value)>,
    outcome: Result<(Option<Message>, Message), CallError>,
}

impl Job {
    pub(super) fn run(&mut self) {
        let Some((old, argument)) = self.values.take() else { return };
        let unreadable = |error: io::Error| CallError::Busy(format!("a value could not be read: {error}"));
        self.outcome = (|| {
            let old = old.map(Value::into_message).transpose().map_err(unreadable)?;
            let argument = argument.into_message().map_err(unreadable)?;
            let function = RawFunction::find(&self.function)
                .ok_or_else(|| CallError::from_outcome(Outcome::UnknownFunction(self.function.clone())))?;
            function.change(old, argument).map_err(CallError::from_outcome)
        })();
    }
}

impl State {
    pub(super) fn new(
        door: Receiver<ServersEnd>,
        way_in: OwnedFd,
        stop: Receiver<()>,
        watch: Arc<Watch>,
        limits: Limits,
    ) -> io::Result<Self> {
        Ok(Self {
            door: Some(door),
            _stop: stop,
            watch,
            limits,
            known: Known::new(way_in)?,
            clients: HashMap::new(),
            objects: HashMap::new(),
            names: HashMap::new(),
            last: 0,
            jobs: VecDeque::new(),
            timers: BTreeMap::new(),
            dead: Vec::new(),
            lacking_credit: HashSet::new(),
            gone: Vec::new(),
        })
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Serves what the set has reported.
    pub(super) fn serve(&mut self, number: u64, flags: EventFlags) {
        match (number, number & 3) {
            (DOOR, _) => self.let_in(),
            (_, LEASE) => self.remove_if_unused(number >> 2),
            (_, CLIENT) => {
                let id = number >> 2;
                if flags.contains(EventFlags::OUT) {
                    self.flush(id);
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.read(id, flags.intersects(EventFlags::HUP | EventFlags::ERR));
                }
            }
            _ => {}
        }
    }

    fn let_in(&mut self) {
        for _ in 0..ENTRIES {
            let Some(door) = &self.door else { return };
            match door.try_recv() {
                Ok(Some(connection)) => {
                    let id = self.number();
                    let data = EventData::new_u64(id << 2 | CLIENT);
                    // A connection that cannot be watched is closed, which its client sees.
                    if epoll::add(&self.watch.epoll, &connection, data, EventFlags::IN).is_ok() {
                        self.clients.insert(id, Client::new(connection));
                    }
                }
                Ok(None) | Err(RecvError::Disconnected | RecvError::Io(_)) => return,
                // Nothing of this library's.
                Err(_) => {}
            }
        }
    }

    /// Serves requests of a client, which may have ended after it sent them.
    fn read(&mut self, id: u64, ended: bool) {
        for _ in 0..TURN {
            let Some(client) = self.clients.get_mut(&id) else { return };
            if client.is_full(self.limits.calls) {
                // What a client has sent that is gone and was not read is not served.
                if ended {
                    self.dead.push(id);
                }
                break;
            }
            match client.receive() {
                Ok(Some(request)) => self.take(id, request),
                Ok(None) => break,
                // It has ended, or it sends what no client sends.
                Err(_) => {
                    self.dead.push(id);
                    return;
                }
            }
        }
        self.watch_for(id);
    }

    fn flush(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            let sending = client.flush();
            self.note(id, sending);
        }
    }

    /// Tries again to send what waits for time to pass.
    pub(super) fn retry(&mut self) {
        for id in std::mem::take(&mut self.lacking_credit) {
            self.flush(id);
        }
    }

    /// How long the server may wait for the next event.
    pub(super) fn pause(&self) -> Option<Duration> {
        let timer = self.timers.keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let retry = (!self.lacking_credit.is_empty()).then_some(RETRY);
        timer.into_iter().chain(retry).min()
    }

    /// Ends the waits whose time is over.
    pub(super) fn give_up(&mut self) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= Instant::now()) {
            let ((_, who), object) = timer.remove_entry();
            self.end_wait(who, object);
        }
    }

    fn end_wait(&mut self, who: Waiter, object: u64) {
        let mut answers = Answers::new();
        if let Some(Content::Waiting(waiting)) = self.objects.get_mut(&object).map(|object| &mut object.content) {
            waiting.give_up(who, &mut answers);
        }
        self.answer_parked(answers);
    }

    /// Lets a call wait for an object.
    fn park(&mut self, who: Waiter, object: u64, timeout: Timeout, answers: Answers) {
        let now = timeout.is_some_and(|timeout| timeout.is_zero());
        let until = timeout.filter(|_| !now).and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(client) = self.clients.get_mut(&who.client) {
            client.park(who.call, object, until);
            if client.involved.len() > 2 * self.objects.len() + 64 {
                client.involved.retain(|object| self.objects.contains_key(object));
            }
        }
        let answered = answers.iter().any(|(answered, _)| *answered == who);
        if let Some(until) = until.filter(|_| !answered) {
            self.timers.insert((until, who), object);
        }
        self.answer_parked(answers);
        if now && !answered {
            self.end_wait(who, object);
        }
    }

    fn answer_parked(&mut self, answers: Answers) {
        for (who, body) in answers {
            if let Some(client) = self.clients.get_mut(&who.client) {
                if let Some(until) = client.unpark(who.call) {
                    self.timers.remove(&(until, who));
                }
                self.answer(who.client, who.call, body);
            }
        }
    }

    fn note(&mut self, id: u64, sending: Sending) {
        match sending {
            Sending::Dead => self.dead.push(id),
            _ => self.watch_for(id),
        }
    }

    /// Has the set report what is wanted of a client now.
    fn watch_for(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.lacks_credit {
            self.lacking_credit.insert(id);
        }
        let wanted = client.wanted(self.limits.calls);
        if wanted != client.interest {
            let data = EventData::new_u64(id << 2 | CLIENT);
            match epoll::modify(&self.watch.epoll, &client.connection, data, wanted) {
                Ok(()) => client.interest = wanted,
                Err(_) => self.dead.push(id),
            }
        }
    }

    fn answer(&mut self, id: u64, call: u64, body: Body) {
        // The client may have ended, and then its answer is dropped.
        if let Some(client) = self.clients.get_mut(&id) {
            let sending = client.answer(call, body);
            self.note(id, sending);
        }
    }

    fn take(&mut self, client: u64, mut request: Request) {
        let adopted = request.operation.for_each_value(|value| value.adopt(&self.known));
        if let Err(error) = adopted {
            let why = CallError::Busy(format!("a descriptor could not be examined: {error}"));
            return self.answer(client, request.call, Body::Failed(why));
        }
        if request.object == 0 {
            let body = self.serve_itself(request.operation).unwrap_or_else(Body::Failed);
            return self.answer(client, request.call, body);
        }
        self.apply(client, request);
    }

    /// Serves a request for the server itself.
    fn serve_itself(&mut self, operation: Operation) -> Result<Body, CallError> {
        match operation {
            Operation::Ping => Ok(Body::Done),
            Operation::Create { initial, interface } => self.create(initial, interface),
            Operation::Publish { name, object } => {
                let object = self.objects.get(&object).ok_or(CallError::NoSuchObject)?;
                self.names.insert(name, Reference::new(&object.anchor));
                Ok(Body::Done)
            }
            Operation::Unpublish(name) => Ok(Body::Flag(self.names.remove(&name).is_some())),
            Operation::Find { name, interface } => {
                let id = self.names.get(&name).ok_or(CallError::NoSuchObject)?.id();
                let object = self.objects.get(&id).ok_or(CallError::NoSuchObject)?;
                if object.interface != interface {
                    let found = object.interface.clone();
                    return Err(CallError::WrongType { expected: interface, found });
                }
                Ok(Body::Object(id, Fd(object.anchor.lease().map_err(no_lease)?)))
            }
            Operation::Objects => Ok(Body::Objects(self.describe())),
            _ => Err(CallError::NoSuchObject),
        }
    }

    fn create(&mut self, initial: Initial, interface: String) -> Result<Body, CallError> {
        let id = self.number();
        let (anchor, lease) = Anchor::new(id, &self.watch).map_err(no_lease)?;
        self.known.add(&anchor).map_err(no_lease)?;
        let content = Content::new(initial);
        let object = Object { anchor, interface, content, busy: false, waiting: VecDeque::new() };
        self.objects.insert(id, object);
        Ok(Body::Object(id, Fd(lease)))
    }

    fn describe(&self) -> Vec<ObjectInfo> {
        let describe = |(id, object): (&u64, &Object)| ObjectInfo {
            id: *id,
            type_name: object.interface.clone(),
            len: object.content.len(),
            leased: object.anchor.is_leased(),
            references: object.anchor.references(),
        };
        let mut objects: Vec<_> = self.objects.iter().map(describe).collect();
        objects.sort_by_key(|object| object.id);
        objects
    }

    /// Serves a request for an object.
    fn apply(&mut self, client: u64, request: Request) {
        let Request { call, object: id, operation } = request;
        let Some(object) = self.objects.get_mut(&id) else {
            return self.answer(client, call, Body::Failed(CallError::NoSuchObject));
        };
        if object.busy {
            return object.waiting.push_back((client, Request { call, object: id, operation }));
        }
        let crowded = |client: &Client| client.parked.len() >= MOST_PARKED || client.parked.contains_key(&call);
        if operation.may_wait() && self.clients.get(&client).is_some_and(crowded) {
            let why = CallError::Busy("too many calls of one process wait".to_owned());
            return self.answer(client, call, Body::Failed(why));
        }
        let (who, mut answers) = (Waiter { client, call }, Answers::new());
        let body = match object.content.apply(operation, who, &mut answers) {
            Step::Answer(body) => body,
            Step::Wait(timeout) => return self.park(who, id, timeout, answers),
            Step::Silent => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.expects_nothing();
                }
                return self.answer_parked(answers);
            }
            Step::Run(Modification { place, function, old, argument }) => {
                object.busy = true;
                let values = Some((old, argument));
                let outcome = Err(CallError::NoSuchObject);
                let job = Job { client, call, object: id, place, function, values, outcome };
                return self.jobs.push_back(job);
            }
            Step::Mismatch => {
                let (expected, found) = ("an object with this method".to_owned(), object.interface.clone());
                Body::Failed(CallError::WrongType { expected, found })
            }
        };
        self.answer(client, call, body);
        self.answer_parked(answers);
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Puts the result of a function where it belongs, and serves what has waited for that.
    /// Returns the objects that went.
    pub(super) fn finish(&mut self, job: Job) -> Vec<Object> {
        let Job { client, call, object: id, place, outcome, .. } = job;
        let Some(object) = self.objects.get_mut(&id) else { return Vec::new() };
        let body = match outcome {
            Ok((new, result)) => {
                let new = new.map(|message| {
                    let mut value = Value::new(message);
                    value.adopt(&self.known).map(|()| value)
                });
                match new.transpose() {
                    Ok(new) => {
                        object.content.put(place, new);
                        Body::Value(Some(Value::new(result)))
                    }
                    Err(error) => Body::Failed(no_lease(error)),
                }
            }
            Err(error) => Body::Failed(error),
        };
        object.busy = false;
        self.answer(client, call, body);
        while let Some(object) = self.objects.get_mut(&id).filter(|object| !object.busy) {
            match object.waiting.pop_front() {
                Some((client, request)) => self.apply(client, request),
                None => break,
            }
        }
        self.remove_if_unused(id);
        self.bury()
    }

    /// Removes an object that no process and no value refers to.
    fn remove_if_unused(&mut self, id: u64) {
        let Some(object) = self.objects.get(&id) else { return };
        if !object.busy && object.anchor.references() == 0 && !object.anchor.is_leased() {
            self.gone.extend(self.objects.remove(&id));
        }
    }

    /// Removes clients and objects that have ended, and returns what is left of the objects, to be
    /// dropped without the lock.
    pub(super) fn bury(&mut self) -> Vec<Object> {
        // A client's end can be the news of another one's.
        while let Some(id) = self.dead.pop() {
            if let Some(client) = self.clients.remove(&id) {
                // The client may have kept a duplicate, so closing this one is not enough.
                let _ = epoll::delete(&self.watch.epoll, &client.connection);
                self.lacking_credit.remove(&id);
                for object in self.objects.values_mut().filter(|object| object.busy) {
                    object.waiting.retain(|(waiting, _)| *waiting != id);
                }
                for (call, (_, until)) in client.parked {
                    if let Some(until) = until {
                        self.timers.remove(&(until, Waiter { client: id, call }));
                    }
                }
                for object in client.involved {
                    let mut answers = Answers::new();
                    if let Some(Content::Waiting(waiting)) = self.objects.get_mut(&object).map(|o| &mut o.content) {
                        waiting.forget(id, &mut answers);
                    }
                    self.answer_parked(answers);
                }
            }
        }
        for id in self.watch.suspects() {
            self.remove_if_unused(id);
        }
        let gone = std::mem::take(&mut self.gone);
        for object in &gone {
            self.known.remove(&object.anchor);
        }
        gone
    }

    /// Ends all connections, and returns the objects, to be dropped without the lock.
    pub(super) fn end(&mut self) -> Vec<Object> {
        self.door = None;
        self.clients.clear();
        self.names.clear();
        self.jobs.clear();
        self.timers.clear();
        self.objects.drain().map(|(_, object)| object).collect()
    }
}

fn no_lease(error: io::Error) -> CallError {
    CallError::Busy(format!("no descriptor is free in the server: {error}"))
}
