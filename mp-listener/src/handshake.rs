//! The handshake.
//!
//! Each side challenges the other once. The listener challenges first, and the client answers and
//! then challenges. So the listener answers only a client that has proved that it has the key.

use std::io;

use crate::challenge::{Challenge, Role};
use crate::digest::Digest;
use crate::waits::Waits;
use crate::{AuthKey, AuthenticationError, ByteConnection, RecvError, SendError, transfer};

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// The greatest length of a message in the handshake, in bytes.
const LONGEST: u64 = 256;

/// The least length of a challenge that is answered, in bytes, with the name of its digest. A
/// challenge without a name has this length.
const SHORTEST_CHALLENGE: usize = 20;

/// The settings of this side's authentication.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    key: AuthKey,
    /// Whether HMAC-MD5 is allowed.
    legacy: bool,
}

impl Credentials {
    /// Returns the settings for an optional key, which must not be empty.
    pub(crate) fn new(key: Option<AuthKey>, legacy: bool) -> io::Result<Option<Self>> {
        if key.as_ref().is_some_and(|key| key.as_bytes().is_empty()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is empty"));
        }
        Ok(key.map(|key| Self { key, legacy }))
    }

    /// Checks the peer's response to `challenge`.
    fn verify(&self, challenge: &[u8], response: &[u8]) -> Result<(), AuthenticationError> {
        let (digest, code) = Digest::of(response).ok_or(AuthenticationError::Protocol(
            "it did not answer the challenge; is an authentication key set on both sides?",
        ))?;
        self.permit(digest)?;
        match digest.verify(&self.key, challenge, code) {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthenticationError::WrongKey),
            Err(_) => Err(AuthenticationError::Protocol("no digest takes the key")),
        }
    }

    /// Computes the response to the challenge in the peer's `message`.
    fn respond(&self, role: Role, message: &[u8]) -> Result<Vec<u8>, AuthenticationError> {
        let problem = AuthenticationError::Protocol;
        let challenge = message
            .strip_prefix(CHALLENGE)
            .ok_or(problem("it did not send a challenge; is an authentication key set on both sides?"))?;
        if challenge.len() < SHORTEST_CHALLENGE {
            return Err(problem("its challenge is too short"));
        }
        if Challenge::is_reflected(role, challenge) {
            return Err(AuthenticationError::Reflected);
        }
        let (digest, _) = Digest::of(challenge).ok_or(problem("its challenge names an unknown digest"))?;
        self.permit(digest)?;
        let code = digest.sign(&self.key, challenge).map_err(|_| problem("no digest takes the key"))?;
        // If the peer names no digest, it does not expect a name in the response.
        let prefix = if challenge.len() == SHORTEST_CHALLENGE { &[] } else { digest.prefix() };
        Ok([prefix, &code].concat())
    }

    fn permit(&self, digest: Digest) -> Result<(), AuthenticationError> {
        if digest == Digest::Md5 && !self.legacy {
            return Err(AuthenticationError::LegacyDigest);
        }
        Ok(())
    }
}

/// Does the handshake as the side `role`.
pub(crate) async fn authenticate(
    connection: &mut ByteConnection,
    credentials: &Credentials,
    role: Role,
    waits: &Waits,
) -> Result<(), AuthenticationError> {
    // It exists as long as the handshake, so that this process does not answer it.
    let challenge = Challenge::new(role).map_err(AuthenticationError::Io)?;
    match role {
        Role::Listener => {
            ask(connection, credentials, &challenge, waits).await?;
            answer(connection, credentials, role, waits).await
        }
        Role::Client => {
            answer(connection, credentials, role, waits).await?;
            ask(connection, credentials, &challenge, waits).await
        }
    }
}

/// Lets the peer prove that it has the key.
async fn ask(
    connection: &mut ByteConnection,
    credentials: &Credentials,
    challenge: &Challenge,
    waits: &Waits,
) -> Result<(), AuthenticationError> {
    let challenge = challenge.message();
    send(connection, &[CHALLENGE, &challenge].concat(), waits).await?;
    let verdict = credentials.verify(&challenge, &receive(connection, waits).await?);
    let sent = send(connection, if verdict.is_ok() { WELCOME } else { FAILURE }, waits).await;
    // The result counts even if the peer does not receive it.
    verdict.and(sent)
}

/// Proves to the peer that this side has the key.
async fn answer(
    connection: &mut ByteConnection,
    credentials: &Credentials,
    role: Role,
    waits: &Waits,
) -> Result<(), AuthenticationError> {
    let response = credentials.respond(role, &receive(connection, waits).await?)?;
    send(connection, &response, waits).await?;
    match receive(connection, waits).await?.as_slice() {
        WELCOME => Ok(()),
        FAILURE => Err(AuthenticationError::Rejected),
        _ => Err(AuthenticationError::Protocol("it sent neither a welcome nor a failure")),
    }
}

async fn receive(connection: &mut ByteConnection, waits: &Waits) -> Result<Vec<u8>, AuthenticationError> {
    match transfer::receive(connection, LONGEST, waits).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) | Err(RecvError::Closed) => Err(AuthenticationError::TimedOut),
        Err(RecvError::Disconnected | RecvError::Truncated) => Err(AuthenticationError::Disconnected),
        Err(RecvError::Io(error)) => Err(AuthenticationError::Io(error)),
        Err(RecvError::TooLarge { .. }) => Err(AuthenticationError::Protocol("it sent a message that is too long")),
        Err(_) => Err(AuthenticationError::Protocol("it sent bytes that are not a message")),
    }
}

async fn send(connection: &mut ByteConnection, message: &[u8], waits: &Waits) -> Result<(), AuthenticationError> {
    transfer::send(connection, message, waits).await.map_err(|error| match error {
        SendError::Disconnected => AuthenticationError::Disconnected,
        SendError::Io(error) => AuthenticationError::Io(error),
        // There is room for such a short message, unless the peer does not read at all.
        _ => AuthenticationError::TimedOut,
    })
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
