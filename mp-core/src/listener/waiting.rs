//! The clients of a listener that have not authenticated yet.
//!
//! Each is a connection, its side of the handshake, and a deadline. One that dawdles keeps nobody waiting but itself.
//!
//! 1. A client's socket is in the set of events as long as the client is here; the listening socket as long as there is a place.
//! 2. The alarm of the set is that of the earliest deadline.
//!
//! So the set is readable exactly when [`step`](Waiting::step) has something to do.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::handshake::{self, Credentials, Handshake};
use super::{AcceptError, AuthenticationError, ByteConnection};
use crate::sys::events::Events;
use crate::sys::poll::Deadline;
use crate::sys::stream;

/// How many clients can be in their handshakes. The others wait in the kernel's queue.
const PLACES: usize = 64;

/// What the listening socket is known by among the events; the clients are numbered from 1.
const LISTENING: u64 = 0;

/// What clients come in by.
pub(super) struct Door {
    pub(super) listening: OwnedFd,
    pub(super) events: Events,
    /// What a handshake takes; without, there is none.
    pub(super) credentials: Option<Credentials>,
    /// How long a handshake may take.
    pub(super) patience: Duration,
}

pub(super) struct Waiting {
    clients: HashMap<u64, Client>,
    last: u64,
    is_full: bool,
}

struct Client {
    connection: ByteConnection,
    handshake: Handshake,
    deadline: Deadline,
}

impl Waiting {
    pub(super) fn new(door: &Door) -> io::Result<Self> {
        door.events.add(door.listening.as_fd(), LISTENING)?;
        Ok(Self { clients: HashMap::new(), last: LISTENING, is_full: false })
    }

    /// Does what can be done without waiting, until a client has come through or failed.
    pub(super) fn step(&mut self, door: &Door) -> Option<Result<ByteConnection, AcceptError>> {
        let result = self.try_step(door).map_err(AcceptError::Io);
        let kept = self.keep_watch(door).map_err(AcceptError::Io);
        match result {
            Ok(Some(result)) => Some(result),
            Ok(None) => kept.err().map(Err),
            Err(error) => Some(Err(error)),
        }
    }

    fn try_step(&mut self, door: &Door) -> io::Result<Option<Result<ByteConnection, AcceptError>>> {
        let late = |client: &Client| client.deadline.left().is_some_and(|left| left.is_zero());
        if let Some(name) = self.clients.iter().find(|(_, client)| late(client)).map(|(name, _)| *name) {
            self.dismiss(door, name);
            return Ok(Some(Err(AuthenticationError::TimedOut.into())));
        }
        for name in door.events.ready()? {
            let result = if name == LISTENING { self.admit(door)? } else { self.advance(door, name) };
            if result.is_some() {
                return Ok(result);
            }
        }
        Ok(None)
    }

    /// Accepts a client, and begins its handshake if there is to be one.
    fn admit(&mut self, door: &Door) -> io::Result<Option<Result<ByteConnection, AcceptError>>> {
        if self.clients.len() >= PLACES {
            return Ok(None);
        }
        let Some(socket) = stream::accept(door.listening.as_fd())? else { return Ok(None) };
        let connection = ByteConnection::new(socket);
        let Some(credentials) = &door.credentials else { return Ok(Some(Ok(connection))) };
        let (handshake, first) = Handshake::listener(credentials.clone())?;
        if let Err(error) = handshake::send(&connection, &first, Deadline::PASSED) {
            return Ok(Some(Err(error.into())));
        }
        self.last += 1;
        door.events.add(connection.as_fd(), self.last)?;
        self.clients.insert(self.last, Client { connection, handshake, deadline: Deadline::after(door.patience) });
        Ok(None)
    }

    /// Goes on with a handshake.
    fn advance(&mut self, door: &Door, name: u64) -> Option<Result<ByteConnection, AcceptError>> {
        let client = self.clients.get_mut(&name)?;
        match handshake::advance(&client.connection, &mut client.handshake, Deadline::PASSED) {
            Ok(false) => None,
            Ok(true) => self.dismiss(door, name).map(Ok),
            Err(error) => {
                self.dismiss(door, name);
                Some(Err(error.into()))
            }
        }
    }

    fn dismiss(&mut self, door: &Door, name: u64) -> Option<ByteConnection> {
        let client = self.clients.remove(&name)?;
        // It was added, so this cannot fail; and if the socket is closed now, it leaves the set by itself.
        let _ = door.events.remove(client.connection.as_fd());
        Some(client.connection)
    }

    /// Establishes what the beginning of this file numbers.
    fn keep_watch(&mut self, door: &Door) -> io::Result<()> {
        let full = self.clients.len() >= PLACES;
        if full != self.is_full {
            if full {
                door.events.remove(door.listening.as_fd())?;
            } else {
                door.events.add(door.listening.as_fd(), LISTENING)?;
            }
            self.is_full = full;
        }
        let deadlines = self.clients.values().map(|client| client.deadline);
        let nearest = deadlines.min_by_key(|deadline| deadline.left().unwrap_or(Duration::MAX));
        door.events.set_alarm(nearest.unwrap_or(Deadline::NEVER))
    }
}
