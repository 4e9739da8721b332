//! The sender's side of a lane.

use std::cell::Cell;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::frame::{KIND_ABORT, KIND_END, KIND_PART, KIND_WITHDRAWN, send_frame};
use crate::codec::EncodeError;
use crate::connection::backoff::Backoff;
use crate::connection::error::SendErrorReason;
use crate::connection::packet::MOST_HANDLES;
use crate::handle;
use crate::message::Passage;
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::{self, Blocking};

/// How long a sender waits for an answer at least. A receiver that waits for a message is on its feet much earlier, unless the
/// machine is busy.
const ANSWER_WITHIN: Duration = Duration::from_millis(1);

/// How many bytes a memory file takes in a microsecond, about: so much longer a sender waits for an answer before it makes one.
const BYTES_PER_MICROSECOND: u64 = 2 << 10;

/// But no longer than this.
const ANSWER_AT_MOST: Duration = Duration::from_millis(50);

thread_local! {
    /// Whether this thread sends through a lane.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this thread is in the middle of sending through a lane.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// An open lane.
struct Lane {
    socket: OwnedFd,
    handles: usize,
}

impl Lane {
    fn new(socket: OwnedFd) -> Self {
        INSIDE.set(true);
        Self { socket, handles: 0 }
    }

    /// Tells, once the receiver has closed its end, whether it has refused the rest.
    fn is_refused(&self) -> bool {
        let mut word = [0; 1];
        matches!(socket::receive(self.socket.as_fd(), &mut word, &mut Vec::new(), Blocking::No), Ok(1))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// The sender's side, from before it is known whether the message is large.
pub(crate) struct Sending<'a, Offer> {
    offers: &'a Backoff,
    /// Sends the far end in a packet.
    offer: Offer,
    state: State,
}

enum State {
    /// The message is not large, or was not accepted by a receiver.
    Closed,
    Open(Lane),
    /// The receiver does not want the rest.
    Refused,
    /// The receiver has closed its end: it is dead, or has given the message up.
    Left,
    /// The offer or the message could not be sent.
    Failed(SendErrorReason),
}

/// What became of a message.
pub(crate) enum Sent {
    /// Its receiver has it, as far as it wanted to.
    Done,
    /// It has to go another way: it has not gone at all, or not to its end.
    No {
        /// Part of it has been sent, so it has to be encoded again.
        begun: bool,
    },
}

impl<'a, Offer: FnMut(BorrowedFd<'_>) -> Result<(), SendErrorReason>> Sending<'a, Offer> {
    pub(crate) fn new(offers: &'a Backoff, offer: Offer) -> Self {
        Self { offers, offer, state: State::Closed }
    }

    /// Ends the message, the encoding of which gave `result`.
    pub(crate) fn conclude(mut self, result: Result<(), EncodeError>) -> Result<Sent, SendErrorReason> {
        if let (State::Open(lane), Ok(())) = (&self.state, &result) {
            let ended = send_frame(&lane.socket, KIND_END, &[], &[]);
            self.after(ended);
        }
        match (mem::replace(&mut self.state, State::Closed), result) {
            (State::Failed(reason), _) => Err(reason),
            (State::Refused, _) | (State::Open(_), Ok(())) => Ok(Sent::Done),
            (State::Left, _) => {
                self.offers.note(false);
                Ok(Sent::No { begun: true })
            }
            (State::Closed, Ok(())) => Ok(Sent::No { begun: false }),
            (State::Closed, Err(error)) => Err(SendErrorReason::Encode(error)),
            (state @ State::Open(_), Err(error)) => {
                // Dropping takes it back.
                self.state = state;
                Err(SendErrorReason::Encode(error))
            }
        }
    }

    /// Notes what came of sending a frame.
    fn after(&mut self, result: io::Result<()>) {
        let (State::Open(lane), Err(error)) = (&self.state, result) else { return };
        self.state = match () {
            () if !is_gone(&error) => State::Failed(SendErrorReason::Io(error)),
            () if lane.is_refused() => State::Refused,
            () => State::Left,
        };
    }

    fn try_open(&mut self, least: u64) -> Result<Option<Lane>, SendErrorReason> {
        if is_inside() || !self.offers.take_chance() {
            return Ok(None);
        }
        // Without descriptors the memory file cannot be made either, and that says so.
        let Ok((mine, theirs)) = socket::stream_pair() else { return Ok(None) };
        (self.offer)(theirs.as_fd())?;
        drop(theirs);
        let mut answer = [0; 1];
        let patience = ANSWER_WITHIN + Duration::from_micros(least / BYTES_PER_MICROSECOND);
        let answered = poll::readable(mine.as_fd(), Deadline::after(patience.min(ANSWER_AT_MOST))).unwrap_or(false)
            && matches!(socket::receive(mine.as_fd(), &mut answer, &mut Vec::new(), Blocking::No), Ok(1));
        self.offers.note(answered);
        if answered {
            return Ok(Some(Lane::new(mine)));
        }
        // One that answers from now on finds this; and there is room for it, as nothing else was sent.
        let _ = send_frame(&mine, KIND_WITHDRAWN, &[], &[]);
        Ok(None)
    }
}

impl<Offer: FnMut(BorrowedFd<'_>) -> Result<(), SendErrorReason>> Passage for Sending<'_, Offer> {
    fn open(&mut self, least: u64) -> Result<bool, EncodeError> {
        match self.try_open(least) {
            Ok(None) => Ok(false),
            Ok(Some(lane)) => {
                self.state = State::Open(lane);
                Ok(true)
            }
            Err(reason) => {
                self.state = State::Failed(reason);
                Err(EncodeError::new("the message could not be offered"))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let State::Open(lane) = &mut self.state else { return Err(EncodeError::new("the lane is closed")) };
        let handles = handle::fetch_collected();
        lane.handles += handles.len();
        if lane.handles > MOST_HANDLES {
            return Err(EncodeError::new("a message has too many handles"));
        }
        let sent = send_frame(&lane.socket, KIND_PART, bytes, &handles);
        self.after(sent);
        match self.state {
            State::Open(_) => Ok(()),
            _ => Err(EncodeError::new("the message could not be sent to its end")),
        }
    }
}

/// A message that was not ended could not be encoded, or the encoding has panicked: it never was.
impl<Offer> Drop for Sending<'_, Offer> {
    fn drop(&mut self) {
        if let State::Open(lane) = &self.state {
            // To a receiver that is gone there is nothing to take back.
            let _ = send_frame(&lane.socket, KIND_ABORT, &[], &[]);
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
