//! The server: its clients and its objects, how they come and go, and what waits for time to pass.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::{Receiver, RecvError};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::client::{Client, Sending};
use super::content::{self, Content};
use super::job::Job;
use super::object::Object;
use super::waiting::{Answers, Waiter};
use super::{DOOR, Limits};
use crate::error::CallError;
use crate::value::{Known, LEASE, Reference, Watch};
use crate::wire::{Body, Page, ServersEnd};

/// The last two bits of the number under which the set reports a client.
pub(super) const CLIENT: u64 = 2;

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
    pub(super) watch: Arc<Watch>,
    limits: Limits,
    pub(super) known: Known,
    pub(super) clients: HashMap<u64, Client>,
    pub(super) objects: HashMap<u64, Object>,
    pub(super) names: HashMap<String, Reference>,
    /// The last number that a client or an object got.
    last: u64,
    pub(super) jobs: VecDeque<Job>,
    /// When calls give up waiting, and for which object.
    timers: BTreeMap<(Instant, Waiter), u64>,
    /// Clients that were seen to have ended.
    dead: Vec<u64>,
    lacking_credit: HashSet<u64>,
    /// Clients with answers that are about to be sent.
    unsent: Vec<u64>,
    /// Objects that were removed.
    pub(super) gone: Vec<Object>,
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
            unsent: Vec::new(),
            gone: Vec::new(),
        })
    }

    pub(super) fn number(&mut self) -> u64 {
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
        let mut served = 0;
        while served < TURN {
            let Some(client) = self.clients.get_mut(&id) else { return };
            if client.is_full(self.limits.calls) {
                // What a client has sent that is gone and was not read is not served.
                if ended {
                    self.dead.push(id);
                }
                break;
            }
            match client.receive() {
                Ok(requests) if requests.is_empty() => break,
                Ok(requests) => {
                    served += requests.len();
                    requests.into_iter().for_each(|request| self.take(id, request));
                }
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
        if let Some(object) = self.objects.get_mut(&object) {
            object.content.give_up(who, &mut answers);
        }
        self.answer_parked(answers);
    }

    /// Lets a call wait for an object.
    pub(super) fn park(&mut self, who: Waiter, object: u64, timeout: Option<Duration>, answers: Answers) {
        let now = timeout.is_some_and(|timeout| timeout.is_zero());
        let until = timeout.filter(|_| !now).and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(client) = self.clients.get_mut(&who.client) {
            client.park(who.call, object, until);
            // It has to know if the client ends.
            client.involved.insert(object);
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

    pub(super) fn answer_parked(&mut self, answers: Answers) {
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

    pub(super) fn answer(&mut self, id: u64, call: u64, mut body: Body) {
        if let Body::Entries(page) = &mut body {
            if let Err(error) = self.cut(page) {
                body = Body::Failed(error);
            }
        }
        // The client may have ended, and then its answer is dropped.
        if let Some(client) = self.clients.get_mut(&id) {
            if client.answer(call, body) {
                self.unsent.push(id);
            }
        }
    }

    /// Keeps what is too long of a page, to be asked for in pieces.
    fn cut(&mut self, page: &mut Page) -> Result<(), CallError> {
        let rest = page.entries.split_off(content::piece(&page.entries));
        if !rest.is_empty() {
            page.rest = Some(self.insert(Content::Pieces(rest), "a snapshot".to_owned())?);
        }
        Ok(())
    }

    /// Sends the answers that have come together. Returns whether a client was seen to have ended.
    pub(super) fn send_answers(&mut self) -> bool {
        while let Some(id) = self.unsent.pop() {
            self.flush(id);
        }
        !self.dead.is_empty()
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
                    if let Some(object) = self.objects.get_mut(&object) {
                        object.content.forget(id, &mut answers);
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
