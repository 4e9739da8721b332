//! One client of the server: its connection, and the answers for which it has no room yet.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::time::Instant;

use mp_core::raw::{Deadline, writable};
use mp_core::{RecvError, SendErrorReason};
use rustix::event::epoll::EventFlags;

use crate::error::CallError;
use crate::wire::{Body, NO_CALL, Request, Response, ServersEnd, TOGETHER};

pub(super) struct Client {
    pub(super) connection: ServersEnd,
    /// In the order in which they are sent.
    outgoing: VecDeque<Response>,
    /// How many requests were read and not answered. What is in `outgoing` counts.
    unanswered: usize,
    /// The calls that wait for an object, and until when.
    pub(super) parked: HashMap<u64, Option<Instant>>,
    /// What the set is asked to report.
    pub(super) interest: EventFlags,
    /// Why what is in `outgoing` could not be sent when that was last tried.
    pub(super) blocked: Option<Blocked>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// The set reports when there is room.
    NoRoom,
    /// The socket has room, but long answers wait to be read: only time tells when they were.
    NoCredit,
}

impl Client {
    pub(super) fn new(connection: ServersEnd) -> Self {
        Self {
            connection,
            outgoing: VecDeque::new(),
            unanswered: 0,
            parked: HashMap::new(),
            interest: EventFlags::IN,
            blocked: None,
        }
    }

    /// Receives the next requests, if some have arrived.
    pub(super) fn receive(&mut self) -> Result<Option<Vec<Request>>, RecvError> {
        let requests = self.connection.try_recv()?;
        let count = requests.as_ref().map_or(0, Vec::len);
        if count > TOGETHER {
            return Err(RecvError::Malformed("it holds more requests than a client sends together"));
        }
        self.unanswered += count;
        Ok(requests)
    }

    /// A call waits for an object. It does not count as unanswered meanwhile, because the call that
    /// it waits for may be one of the same client.
    pub(super) fn park(&mut self, call: u64, until: Option<Instant>) {
        self.unanswered -= 1;
        self.parked.insert(call, until);
    }

    /// The call is about to be answered. If it waits, it does so no longer. Returns until when it
    /// would have waited.
    pub(super) fn unpark(&mut self, call: u64) -> Option<Instant> {
        let until = self.parked.remove(&call)?;
        self.unanswered += 1;
        until
    }

    /// Tells whether the client has as many unanswered calls as it may.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.unanswered >= most
    }

    /// What the set has to report of the client from now on.
    pub(super) fn wanted(&self, most: usize) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !self.is_full(most));
        wanted.set(EventFlags::OUT, self.blocked == Some(Blocked::NoRoom));
        wanted
    }

    /// Adds an answer to those that will be sent, if the client expects one. Returns whether it is
    /// the only one.
    pub(super) fn answer(&mut self, call: u64, body: Body) -> bool {
        if call == NO_CALL {
            self.unanswered -= 1;
            return false;
        }
        let first = self.outgoing.is_empty();
        if body.can_be_lost() {
            self.outgoing.push_back(Response { call, body: Body::Follows });
        }
        self.outgoing.push_back(Response { call, body });
        first
    }

    /// Sends what there is room for, and small answers together; false if the client has ended.
    pub(super) fn flush(&mut self) -> bool {
        self.blocked = None;
        let mut most = TOGETHER;
        while !self.outgoing.is_empty() {
            let small = self.outgoing.iter().take(most).take_while(|response| response.body.is_small()).count();
            let packet: Vec<_> = self.outgoing.drain(..small.max(1)).collect();
            let count = packet.iter().filter(|answer| !matches!(answer.body, Body::Follows)).count();
            let mut error = match self.connection.try_send(packet) {
                Ok(()) => {
                    self.unanswered -= count;
                    continue;
                }
                Err(error) => error,
            };
            let why = match error.reason {
                SendErrorReason::Full | SendErrorReason::TimedOut => {
                    self.put_back(error.value);
                    let has_room = writable(self.connection.as_fd(), Deadline::PASSED).unwrap_or(true);
                    self.blocked = Some(if has_room { Blocked::NoCredit } else { Blocked::NoRoom });
                    return true;
                }
                SendErrorReason::Encode(error) if error.is_too_large() => CallError::Encode(error),
                // The values are encoded already, so only descriptors or memory can be lacking.
                SendErrorReason::Encode(error) => CallError::Busy(format!("the answer could not be sent: {error}")),
                SendErrorReason::Io(error) => CallError::Busy(format!("the answer could not be sent: {error}")),
                _ => return false,
            };
            match &mut error.value[..] {
                // Nothing says which of them cannot be sent.
                [_, _, ..] => most = 1,
                [Response { body: Body::Failed(_) | Body::Follows, .. }] => return false,
                alone => alone.iter_mut().for_each(|response| response.body = Body::Failed(why.clone())),
            }
            self.put_back(error.value);
        }
        true
    }

    fn put_back(&mut self, packet: Vec<Response>) {
        packet.into_iter().rev().for_each(|response| self.outgoing.push_front(response));
    }
}
