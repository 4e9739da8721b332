//! What a request does to the server and to its objects.

use std::io;

use mp_core::raw::{Message, catch_panic};

use super::client::Client;
use super::content::{Content, Step, Turn};
use super::job::{self, Job, Ran};
use super::object::Object;
use super::state::State;
use super::waiting::{Answers, Waiter};
use crate::error::CallError;
use crate::value::{Anchor, Reference, Value};
use crate::wire::{Body, Lease, ObjectInfo, Operation, Place, Request};

/// How many calls of a client may wait for objects.
const MOST_PARKED: usize = 1 << 16;

impl State {
    pub(super) fn take(&mut self, client: u64, mut request: Request) {
        let adopted = request.operation.for_each_value(|value| value.adopt(&self.known));
        if let Err(error) = adopted {
            let why = CallError::Busy(format!("a descriptor could not be examined: {error}"));
            return self.answer(client, request.call, Body::Failed(why));
        }
        if let Operation::Construct { class, method, arguments, interface } = request.operation {
            let work = Box::new(move || job::construct(interface, &class, method, arguments));
            return self.jobs.push_back(Job { client, call: request.call, object: 0, work });
        }
        if request.object == 0 {
            let body = self.serve_itself(request.operation).unwrap_or_else(Body::Failed);
            return self.answer(client, request.call, body);
        }
        let (id, call) = (request.object, request.call);
        match self.objects.get_mut(&id) {
            Some(object) => object.waiting.push_back((client, request)),
            None => self.answer(client, call, Body::Failed(CallError::NoSuchObject)),
        }
        self.serve_object(id);
    }

    /// Serves a request for the server itself.
    fn serve_itself(&mut self, operation: Operation) -> Result<Body, CallError> {
        match operation {
            Operation::Ping => Ok(Body::Done),
            Operation::Create { initial, interface } => self.insert(Content::new(initial), interface).map(Body::Object),
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
                let lease = object.anchor.lease().map_err(no_lease)?;
                Ok(Body::Object(Lease { object: id, descriptor: Some(lease) }))
            }
            Operation::Objects => Ok(Body::Objects(self.describe())),
            _ => Err(CallError::NoSuchObject),
        }
    }

    pub(super) fn insert(&mut self, content: Content, interface: String) -> Result<Lease, CallError> {
        let id = self.number();
        let made = Anchor::new(id, &self.watch).and_then(|made| self.known.add(&made.0).map(|()| made));
        let (anchor, lease) = match made {
            Ok(made) => made,
            Err(error) => {
                self.discard(content);
                return Err(no_lease(error));
            }
        };
        self.objects.insert(id, Object::new(anchor, interface, content));
        Ok(Lease { object: id, descriptor: Some(lease) })
    }

    /// Drops what an object held. The `Drop` of a type of the user's may take long, panic, or call
    /// this server, so it runs as a function does.
    pub(super) fn discard(&mut self, content: Content) {
        if let Content::Own(own) = content {
            let work = Box::new(move || {
                let _ = catch_panic(|| drop(own));
                Ok(Ran::Dropped)
            });
            self.jobs.push_back(Job { client: 0, call: 0, object: 0, work });
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
        self.objects.iter().map(describe).collect()
    }

    /// Serves the requests for an object whose turn it is.
    fn serve_object(&mut self, id: u64) {
        while let Some((client, request, turn)) = self.objects.get_mut(&id).and_then(Object::next) {
            self.start(client, request, turn);
        }
    }

    fn start(&mut self, client: u64, request: Request, turn: Turn) {
        let Request { call, object: id, timeout, operation } = request;
        let (who, mut answers) = (Waiter { client, call }, Answers::new());
        let crowded = |client: &Client| client.parked.len() >= MOST_PARKED || client.parked.contains_key(&call);
        if operation.may_wait() && self.clients.get(&client).is_some_and(crowded) {
            let why = CallError::Busy("too many calls of one process wait".to_owned());
            return self.answer(client, call, Body::Failed(why));
        }
        let Some(object) = self.objects.get_mut(&id) else { return };
        match object.content.apply(operation, who, &mut answers) {
            Ok(Step::Answer(body)) => answers.push((who, body)),
            Ok(Step::Wait) if answers.iter().any(|(answered, _)| *answered == who) => {}
            Ok(Step::Wait) => self.park(who, id, timeout),
            Ok(Step::Run(work)) => {
                object.begin(turn);
                self.jobs.push_back(Job { client, call, object: id, work });
            }
            Err(mut error) => {
                if let CallError::WrongType { found, .. } = &mut error {
                    found.clone_from(&object.interface);
                }
                answers.push((who, Body::Failed(error)));
            }
        }
        self.answer_all(answers);
    }

    /// Puts the result of a function where it belongs, and serves what has waited for that.
    pub(super) fn finish(&mut self, client: u64, call: u64, id: u64, ran: Result<Ran, CallError>) {
        if let Some(Object { content: Content::Own(own), exclusive: true, .. }) = self.objects.get_mut(&id) {
            own.poisoned |= matches!(ran, Err(CallError::Panicked(_)));
        }
        let body = ran.and_then(|ran| match ran {
            Ran::Constructed(interface, own) => self.insert(Content::Own(own), interface).map(Body::Object),
            Ran::Modified(place, new, result) => self.change(id, place, new, result),
            Ran::Called(result) => Ok(Body::Value(Some(Value::new(result)))),
            Ran::Dropped => Ok(Body::Done),
        });
        self.answer(client, call, body.unwrap_or_else(Body::Failed));
        if let Some(object) = self.objects.get_mut(&id) {
            object.end();
        }
        self.serve_object(id);
        if self.objects.get(&id).is_some_and(|object| object.suspected) {
            self.remove_if_unused(id);
        }
        self.bury();
    }

    fn change(&mut self, id: u64, place: Place, new: Option<Message>, result: Message) -> Result<Body, CallError> {
        let object = self.objects.get_mut(&id).ok_or(CallError::NoSuchObject)?;
        let mut new = new.map(Value::new);
        new.iter_mut().try_for_each(|value| value.adopt(&self.known)).map_err(no_lease)?;
        let mut answers = Answers::new();
        object.content.put(place, new, &mut answers);
        self.answer_all(answers);
        Ok(Body::Value(Some(Value::new(result))))
    }

    /// Removes an object that no process and no value refers to.
    pub(super) fn remove_if_unused(&mut self, id: u64) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.suspected = object.running > 0;
        if !object.suspected && object.anchor.references() == 0 && !object.anchor.is_leased() {
            if let Some(object) = self.objects.remove(&id) {
                self.known.remove(&object.anchor);
                self.discard(object.content);
            }
        }
    }
}

fn no_lease(error: io::Error) -> CallError {
    CallError::Busy(format!("no descriptor is free in the server: {error}"))
}
