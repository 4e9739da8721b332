//! The server: its clients, its objects, and what a request does to them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mp_core::raw::{Message, RawFunction, catch_panic};
use mp_core::{Fd, Receiver, RecvError};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::client::{Client, Sending};
use super::content::{self, Content, Modification, Step, Turn};
use super::waiting::{Answers, Waiter};
use super::{DOOR, Limits};
use crate::class::{Class, Method, Own};
use crate::error::CallError;
use crate::value::{Anchor, Known, LEASE, Reference, Value, Watch};
use crate::wire::{Body, ObjectInfo, Operation, Place, Request, ServersEnd, Timeout};

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
    running: Running,
    /// What arrived meanwhile.
    waiting: VecDeque<(u64, Request)>,
}

/// What runs on threads and uses an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    Nothing,
    /// So many calls that may run beside each other.
    Shared(u32),
    Exclusive,
}

impl Object {
    fn new(anchor: Arc<Anchor>, interface: String, content: Content) -> Self {
        Self { anchor, interface, content, running: Running::Nothing, waiting: VecDeque::new() }
    }

    /// Tells whether a call can run now, beside what runs already.
    fn admits(&self, turn: Turn) -> bool {
        match (self.running, turn) {
            (Running::Nothing, _) | (Running::Shared(_), Turn::Shared | Turn::None) => true,
            (Running::Shared(_), Turn::Exclusive) | (Running::Exclusive, _) => false,
        }
    }

    fn begin(&mut self, turn: Turn) {
        self.running = match (self.running, turn) {
            (Running::Shared(others), Turn::Shared) => Running::Shared(others + 1),
            (_, Turn::Shared) => Running::Shared(1),
            (_, Turn::Exclusive) => Running::Exclusive,
            (running, Turn::None) => running,
        };
    }

    fn end(&mut self) {
        self.running = match self.running {
            Running::Shared(others @ 2..) => Running::Shared(others - 1),
            _ => Running::Nothing,
        };
    }
}

/// A function to run.
pub(super) struct Job {
    client: u64,
    call: u64,
    /// 0 for a constructor.
    object: u64,
    work: Work,
}

enum Work {
    Modify { place: Place, function: String, values: Option<(Option<Value>, Value)> },
    Call { value: Arc<RwLock<Own>>, method: Method, arguments: Option<Value> },
    Construct { class: String, method: u32, arguments: Option<Value>, interface: String },
    Drop(Arc<RwLock<Own>>),
    // What came of it.
    Modified(Place, Result<(Option<Message>, Message), CallError>),
    Called(Result<Message, CallError>),
    Constructed(String, Result<(&'static Class, Option<Own>, Message), CallError>),
}

impl Job {
    pub(super) fn run(&mut self) {
        let work = std::mem::replace(&mut self.work, Work::Called(Err(CallError::NoSuchObject)));
        self.work = match work {
            Work::Modify { place, function, values } => Work::Modified(place, modify(function, values)),
            Work::Call { value, method, arguments } => Work::Called(call(&value, method, arguments)),
            Work::Construct { class, method, arguments, interface } => {
                Work::Constructed(interface, construct(&class, method, arguments))
            }
            Work::Drop(value) => {
                let _ = catch_panic(|| drop(value));
                return;
            }
            over => over,
        };
    }
}

fn message(value: Option<Value>) -> Result<Message, CallError> {
    let value = value.ok_or(CallError::NoSuchObject)?;
    value.into_message().map_err(|error| CallError::Busy(format!("a value could not be read: {error}")))
}

fn modify(function: String, values: Option<(Option<Value>, Value)>) -> Result<(Option<Message>, Message), CallError> {
    let (old, argument) = values.ok_or(CallError::NoSuchObject)?;
    let old = old.map(|old| message(Some(old))).transpose()?;
    let argument = message(Some(argument))?;
    match RawFunction::find(&function) {
        Some(found) => found.change(old, argument).map_err(CallError::from_outcome),
        None => Err(CallError::UnknownFunction(function)),
    }
}

fn call(value: &RwLock<Own>, method: Method, arguments: Option<Value>) -> Result<Message, CallError> {
    let arguments = message(arguments)?;
    // The functions catch panics, so the lock is never poisoned.
    match method {
        Method::Shared(run) => run(&value.read().unwrap_or_else(PoisonError::into_inner), arguments),
        Method::Exclusive(run) => run(&mut value.write().unwrap_or_else(PoisonError::into_inner), arguments),
        Method::Create(_) => Err(CallError::UnknownFunction("a constructor called as a method".to_owned())),
    }
}

type Constructed = (&'static Class, Option<Own>, Message);

fn construct(class: &str, method: u32, arguments: Option<Value>) -> Result<Constructed, CallError> {
    let class = Class::find(class)?;
    match class.method(method)? {
        Method::Create(run) => run(message(arguments)?).map(|(value, result)| (class, value, result)),
        _ => Err(CallError::UnknownFunction("a method called as a constructor".to_owned())),
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
        if let Operation::Construct { class, method, arguments, interface } = request.operation {
            let work = Work::Construct { class, method, arguments: Some(arguments), interface };
            return self.jobs.push_back(Job { client, call: request.call, object: 0, work });
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
            Operation::Create { initial, interface } => self.insert(Content::new(initial), interface),
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

    fn insert(&mut self, content: Content, interface: String) -> Result<Body, CallError> {
        let id = self.number();
        let made = Anchor::new(id, &self.watch).and_then(|made| self.known.add(&made.0).map(|()| made));
        let (anchor, lease) = match made {
            Ok(made) => made,
            Err(error) => {
                self.discard(content);
                return Err(no_lease(error));
            }
        };
        let object = Object::new(anchor, interface, content);
        self.objects.insert(id, object);
        Ok(Body::Object(id, Fd(lease)))
    }

    /// Drops what an object held. The `Drop` of a type of the user's may take long, panic, or call
    /// this server, so it runs as a function does.
    fn discard(&mut self, content: Content) {
        if let Content::Own(own) = content {
            self.jobs.push_back(Job { client: 0, call: 0, object: 0, work: Work::Drop(own.value) });
        }
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

    /// Serves a request for an object, in its turn.
    fn apply(&mut self, client: u64, request: Request) {
        if let Some(object) = self.objects.get_mut(&request.object) {
            // An exclusive call that waits is not overtaken.
            if !object.waiting.is_empty() || !object.admits(object.content.turn(&request.operation)) {
                return object.waiting.push_back((client, request));
            }
        }
        self.start(client, request);
    }

    /// Serves a request for an object, whose turn it is.
    fn start(&mut self, client: u64, request: Request) {
        let Request { call, object: id, operation } = request;
        let Some(object) = self.objects.get_mut(&id) else {
            return self.answer(client, call, Body::Failed(CallError::NoSuchObject));
        };
        let turn = object.content.turn(&operation);
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
                object.begin(turn);
                let work = Work::Modify { place, function, values: Some((old, argument)) };
                return self.jobs.push_back(Job { client, call, object: id, work });
            }
            Step::Call { value, method, arguments } => {
                object.begin(turn);
                let work = Work::Call { value, method, arguments: Some(arguments) };
                return self.jobs.push_back(Job { client, call, object: id, work });
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
        let Job { client, call, object: id, work } = job;
        let body = match work {
            Work::Constructed(interface, constructed) => self.add(interface, constructed),
            Work::Modified(place, changed) => changed.and_then(|(new, result)| self.change(id, place, new, result)),
            Work::Called(result) => {
                let object = self.objects.get_mut(&id);
                if let Some(Object { content: Content::Own(own), running: Running::Exclusive, .. }) = object {
                    own.poisoned |= matches!(result, Err(CallError::Panicked(_)));
                }
                result.map(|result| Body::Value(Some(Value::new(result))))
            }
            _ => Err(CallError::NoSuchObject),
        };
        self.answer(client, call, body.unwrap_or_else(Body::Failed));
        if let Some(object) = self.objects.get_mut(&id) {
            object.end();
        }
        while let Some(object) = self.objects.get_mut(&id) {
            match object.waiting.front().map(|(_, request)| object.content.turn(&request.operation)) {
                Some(turn) if object.admits(turn) => {}
                _ => break,
            }
            if let Some((client, request)) = object.waiting.pop_front() {
                self.start(client, request);
            }
        }
        self.remove_if_unused(id);
        self.bury()
    }

    fn change(&mut self, id: u64, place: Place, new: Option<Message>, result: Message) -> Result<Body, CallError> {
        let object = self.objects.get_mut(&id).ok_or(CallError::NoSuchObject)?;
        let mut new = new.map(Value::new);
        new.iter_mut().try_for_each(|value| value.adopt(&self.known)).map_err(no_lease)?;
        object.content.put(place, new);
        Ok(Body::Value(Some(Value::new(result))))
    }

    /// Adds an object of a type of the user's, if its constructor made one.
    fn add(&mut self, interface: String, constructed: Result<Constructed, CallError>) -> Result<Body, CallError> {
        match constructed? {
            (class, Some(value), _) => {
                let value = Arc::new(RwLock::new(value));
                self.insert(Content::Own(content::Object { class, value, poisoned: false }), interface)
            }
            (_, None, error) => Ok(Body::Value(Some(Value::new(error)))),
        }
    }

    /// Removes an object that no process and no value refers to.
    fn remove_if_unused(&mut self, id: u64) {
        let Some(object) = self.objects.get(&id) else { return };
        if object.running == Running::Nothing && object.anchor.references() == 0 && !object.anchor.is_leased() {
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
                for object in self.objects.values_mut() {
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
        let mut others = Vec::new();
        for object in std::mem::take(&mut self.gone) {
            self.known.remove(&object.anchor);
            match object.content {
                Content::Own(_) => self.discard(object.content),
                _ => others.push(object),
            }
        }
        others
    }

    /// Ends all connections, and returns the objects and the work that was not begun, to be dropped
    /// without the lock.
    pub(super) fn end(&mut self) -> (Vec<Object>, VecDeque<Job>) {
        self.door = None;
        self.clients.clear();
        self.names.clear();
        self.timers.clear();
        (self.objects.drain().map(|(_, object)| object).collect(), std::mem::take(&mut self.jobs))
    }
}

fn no_lease(error: io::Error) -> CallError {
    CallError::Busy(format!("no descriptor is free in the server: {error}"))
}
