//! The handshake: first without its socket, a message in and what to answer out; then over one.
//!
//! | expects | answered by | then |
//! |---|---|---|
//! | a response | the verdict: welcome or failure | listener: a challenge; client: done |
//! | a challenge | a response | a verdict |
//! | a verdict | listener: nothing; client: its own challenge | listener: done; client: a response |
//!
//! The listener begins with its challenge and then expects a response; the client begins by expecting a challenge. So the listener
//! never answers a client that has not shown yet that it has the key.

use std::io;

use super::challenge::{Challenge, Role};
use super::digest::Digest;
use super::{AuthKey, AuthenticationError, ByteConnection};
use crate::connection::{RecvError, SendErrorReason};
use crate::sys::poll::Deadline;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// The longest message of a handshake, in bytes.
pub(super) const LONGEST: u64 = 256;

/// The shortest challenge that is answered, in bytes, its digest's name included. It is also the length of those without a name.
const SHORTEST_CHALLENGE: usize = 20;

#[derive(Clone, Copy)]
enum Expects {
    Response,
    Challenge,
    Verdict,
}

/// How this side authenticates.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) key: AuthKey,
    /// Whether HMAC-MD5 is good enough.
    pub(super) legacy: bool,
}

impl Credentials {
    /// Those of a side that may have a key, but not one that anyone would guess.
    pub(super) fn new(key: Option<AuthKey>, legacy: bool) -> io::Result<Option<Self>> {
        if key.as_ref().is_some_and(|key| key.as_bytes().is_empty()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is empty"));
        }
        Ok(key.map(|key| Self { key, legacy }))
    }
}

/// What to do after a message.
pub(super) struct Step {
    /// What to send, before anything else.
    pub(super) reply: Option<Vec<u8>>,
    pub(super) then: Then,
}

pub(super) enum Then {
    /// Another message is expected.
    GoOn,
    /// Both sides have authenticated.
    Done,
    Fail(AuthenticationError),
}

impl Step {
    fn new(reply: impl Into<Option<Vec<u8>>>, then: Then) -> Self {
        Self { reply: reply.into(), then }
    }
}

/// One side of a handshake.
pub(super) struct Handshake {
    credentials: Credentials,
    role: Role,
    expects: Expects,
    challenge: Challenge,
}

impl Handshake {
    /// The listener's side, and the message that it begins with.
    pub(super) fn listener(credentials: Credentials) -> io::Result<(Self, Vec<u8>)> {
        let handshake = Self::new(credentials, Role::Listener, Expects::Response)?;
        let first = handshake.own_challenge();
        Ok((handshake, first))
    }

    /// The client's side.
    pub(super) fn client(credentials: Credentials) -> io::Result<Self> {
        Self::new(credentials, Role::Client, Expects::Challenge)
    }

    fn new(credentials: Credentials, role: Role, expects: Expects) -> io::Result<Self> {
        Ok(Self { credentials, role, expects, challenge: Challenge::new(role)? })
    }

    fn own_challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.challenge.message()].concat()
    }

    /// Takes in the peer's next message.
    pub(super) fn receive(&mut self, message: &[u8]) -> Step {
        match self.expects {
            Expects::Response => match self.verify(message) {
                Ok(()) if self.role == Role::Client => Step::new(WELCOME.to_vec(), Then::Done),
                Ok(()) => self.go_on(WELCOME.to_vec(), Expects::Challenge),
                Err(error) => Step::new(FAILURE.to_vec(), Then::Fail(error)),
            },
            Expects::Challenge => match self.respond(message) {
                Ok(response) => self.go_on(response, Expects::Verdict),
                Err(error) => Step::new(None, Then::Fail(error)),
            },
            Expects::Verdict => match message {
                WELCOME if self.role == Role::Listener => Step::new(None, Then::Done),
                WELCOME => self.go_on(self.own_challenge(), Expects::Response),
                FAILURE => Step::new(None, Then::Fail(AuthenticationError::Rejected)),
                _ => Step::new(None, Then::Fail(AuthenticationError::Protocol("no verdict"))),
            },
        }
    }

    fn go_on(&mut self, reply: Vec<u8>, expects: Expects) -> Step {
        self.expects = expects;
        Step::new(reply, Then::GoOn)
    }

    /// Looks whether a response is the right one to our challenge.
    fn verify(&self, response: &[u8]) -> Result<(), AuthenticationError> {
        let (digest, code) = Digest::of(response)
            .ok_or(AuthenticationError::Protocol("it sent something else than an answer: has it a key?"))?;
        self.permit(digest)?;
        match digest.verify(&self.credentials.key, &self.challenge.message(), code) {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthenticationError::WrongKey),
            Err(_) => Err(AuthenticationError::Protocol("no digest takes the key")),
        }
    }

    /// Answers a challenge of the peer's.
    fn respond(&self, message: &[u8]) -> Result<Vec<u8>, AuthenticationError> {
        let problem = AuthenticationError::Protocol;
        let challenge =
            message.strip_prefix(CHALLENGE).ok_or(problem("it sent something else than a challenge: has it a key?"))?;
        if challenge.len() < SHORTEST_CHALLENGE {
            return Err(problem("a challenge that is too short"));
        }
        if Challenge::is_reflected(self.role, challenge) {
            return Err(AuthenticationError::Reflected);
        }
        let (digest, _) = Digest::of(challenge).ok_or(problem("a challenge for an unknown digest"))?;
        self.permit(digest)?;
        let code = digest.sign(&self.credentials.key, challenge).map_err(|_| problem("no digest takes the key"))?;
        // Who names no digest expects none to be named.
        let prefix = if challenge.len() == SHORTEST_CHALLENGE { &[] } else { digest.prefix() };
        Ok([prefix, &code].concat())
    }

    fn permit(&self, digest: Digest) -> Result<(), AuthenticationError> {
        if digest == Digest::Md5 && !self.credentials.legacy {
            return Err(AuthenticationError::LegacyDigest);
        }
        Ok(())
    }
}

/// Goes on with a handshake until the deadline; false if it is not done by then.
pub(super) fn advance(
    connection: &ByteConnection,
    handshake: &mut Handshake,
    deadline: Deadline,
) -> Result<bool, AuthenticationError> {
    while let Some(message) = connection.recv(deadline, LONGEST).map_err(not_received)? {
        let step = handshake.receive(&message);
        let sent = match &step.reply {
            Some(reply) => send(connection, reply, deadline),
            None => Ok(()),
        };
        match step.then {
            // Whether or not the peer could be told.
            Then::Fail(error) => return Err(error),
            Then::Done => return sent.map(|()| true),
            Then::GoOn => sent?,
        }
    }
    Ok(false)
}

/// Sends a message of the handshake.
pub(super) fn send(connection: &ByteConnection, message: &[u8], deadline: Deadline) -> Result<(), AuthenticationError> {
    let sent = connection.send(message, deadline, SendErrorReason::TimedOut);
    sent.map_err(|error| match error.reason {
        SendErrorReason::Disconnected => AuthenticationError::Disconnected,
        SendErrorReason::Io(error) => AuthenticationError::Io(error),
        // A message as short as this always has room, unless the peer does not read at all.
        _ => AuthenticationError::TimedOut,
    })
}

fn not_received(error: RecvError) -> AuthenticationError {
    match error {
        RecvError::Disconnected | RecvError::Truncated => AuthenticationError::Disconnected,
        RecvError::Io(error) => AuthenticationError::Io(error),
        RecvError::TooLarge { .. } => AuthenticationError::Protocol("a message that is too long"),
        _ => AuthenticationError::Protocol("no message"),
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
