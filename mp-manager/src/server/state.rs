//! The server: its clients and its objects, how they come and go, and what waits for time to pass.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::{Receiver, RecvError};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::client::{Blocked, Client};
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

/// While the server looks before it sleeps, one look of so many is for all clients.
const ONE_FOR_ALL: u32 = 8;

/// How many clients are let in at once.
const ENTRIES: usize = 64;

/// How often the server tries again what it could not do: send to a client that has read none of
/// its long answers, or start a thread.
const RETRY: Duration = Duration::from_millis(20);

pub(super) struct State {
    /// `None` once the server has ended.
    door: Option<Receiver<ServersEnd>>,
    _stop: Receiver<()>,
    pub(super) watch: Arc<Watch>,
    limits: Limits,
    pub(super) known: Known,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) objects: BTreeMap<u64, Object>,
    pub(super) names: HashMap<String, Reference>,
    /// The last number that a client or an object got.
    last: u64,
    /// Functions that wait for a thread.
    pub(super) jobs: VecDeque<Job>,
    /// When calls give up waiting, and for which object.
    timers: BTreeMap<(Instant, Waiter), u64>,
    /// Clients that were seen to have ended.
    dead: Vec<u64>,
    served_last: Option<u64>,
    looks: u32,
    lacking_credit: BTreeSet<u64>,
    /// Clients with answers that are about to be sent.
    unsent: Vec<u64>,
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
            clients: BTreeMap::new(),
            objects: BTreeMap::new(),
            names: HashMap::new(),
            last: 0,
            jobs: VecDeque::new(),
            timers: BTreeMap::new(),
            dead: Vec::new(),
            served_last: None,
            looks: 0,
            lacking_credit: BTreeSet::new(),
            unsent: Vec::new(),
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

    /// Serves the next requests of a client, which may have ended after it sent them. Returns
    /// whether there was something.
    fn read(&mut self, id: u64, ended: bool) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let received = match client.is_full(self.limits.calls) {
            // What a client has sent that is gone and was not read is not served.
            true if ended => Err(RecvError::Disconnected),
            true => return false,
            false => client.receive(),
        };
        self.served_last = Some(id);
        match received {
            Ok(None) => return false,
            Ok(Some(requests)) => requests.into_iter().for_each(|request| self.take(id, request)),
            // It has ended, or it sends what no client sends.
            Err(_) => self.dead.push(id),
        }
        self.watch_for(id);
        true
    }

    /// Tells whether the next look is for the client that was served last alone. That takes one
    /// system call less than asking the set. All others have their turn after a few.
    pub(super) fn looks_at_one(&mut self) -> bool {
        self.looks = (self.looks + 1) % ONE_FOR_ALL;
        self.looks > 0 && self.served_last.is_some()
    }

    /// Looks at that client. Returns whether there was something.
    pub(super) fn look_at_one(&mut self) -> bool {
        self.served_last.is_some_and(|id| self.read(id, false))
    }

    fn flush(&mut self, id: u64) {
        match self.clients.get_mut(&id).map(Client::flush) {
            Some(true) => self.watch_for(id),
            Some(false) => self.dead.push(id),
            None => {}
        }
    }

    /// Tries again to send what waits for time to pass.
    pub(super) fn retry(&mut self) {
        self.unsent.extend(std::mem::take(&mut self.lacking_credit));
    }

    /// How long the server may wait for the next event.
    pub(super) fn pause(&self) -> Option<Duration> {
        let timer = self.timers.keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        // A function that is left over waits for a thread, which perhaps could not be started.
        let retry = (!self.lacking_credit.is_empty() || !self.jobs.is_empty()).then_some(RETRY);
        timer.into_iter().chain(retry).min()
    }

    /// Ends the waits whose time is over.
    pub(super) fn give_up(&mut self) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= Instant::now()) {
            let ((_, who), object) = timer.remove_entry();
            let mut answers = Answers::new();
            if let Some(object) = self.objects.get_mut(&object) {
                object.content.give_up(who, &mut answers);
            }
            self.answer_all(answers);
        }
    }

    /// Lets a call wait for an object.
    pub(super) fn park(&mut self, who: Waiter, object: u64, timeout: Option<Duration>) {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(client) = self.clients.get_mut(&who.client) {
            client.park(who.call, until);
            self.timers.extend(until.map(|until| ((until, who), object)));
        }
    }

    pub(super) fn answer_all(&mut self, answers: Answers) {
        answers.into_iter().for_each(|(who, body)| self.answer(who.client, who.call, body));
    }

    /// Has the set report what is wanted of a client now.
    fn watch_for(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.blocked == Some(Blocked::NoCredit) {
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
            if let Some(until) = client.unpark(call) {
                self.timers.remove(&(until, Waiter { client: id, call }));
            }
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

    /// Sends the answers that have come together. Returns whether there is something to bury.
    pub(super) fn send_answers(&mut self) -> bool {
        for id in std::mem::take(&mut self.unsent) {
            self.flush(id);
        }
        !self.dead.is_empty() || self.watch.has_suspects()
    }

    /// Removes clients and objects that have ended.
    pub(super) fn bury(&mut self) {
        // A client's end can be the news of another one's.
        while let Some(id) = self.dead.pop() {
            if let Some(client) = self.clients.remove(&id) {
                // The client may have kept a duplicate, so closing this one is not enough.
                let _ = epoll::delete(&self.watch.epoll, &client.connection);
                for (call, until) in client.parked {
                    until.map(|until| self.timers.remove(&(until, Waiter { client: id, call })));
                }
                let mut answers = Answers::new();
                for object in self.objects.values_mut() {
                    object.waiting.retain(|(waiting, _)| *waiting != id);
                    object.content.forget(id, &mut answers);
                }
                self.answer_all(answers);
            }
        }
        // Values of one may have referred to others.
        while self.watch.has_suspects() {
            for id in self.watch.suspects() {
                self.remove_if_unused(id);
            }
        }
    }

    /// Ends all connections, and returns the objects and the work that was not begun, to be dropped
    /// without the lock: the `Drop` of a type of the user's may work on them.
    pub(super) fn end(&mut self) -> (BTreeMap<u64, Object>, VecDeque<Job>) {
        self.door = None;
        self.clients.clear();
        self.names.clear();
        self.timers.clear();
        (std::mem::take(&mut self.objects), std::mem::take(&mut self.jobs))
    }
}
