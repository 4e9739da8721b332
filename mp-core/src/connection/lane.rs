//! Large messages that go from hand to hand, without standing anywhere as a whole in between.
//!
//! A message that nobody waits for has to be put into a memory file, so that its sender can go on and a receiver that looks
//! without waiting finds it complete. If a receiver does wait, for as long as it takes, sender and receiver can work
//! at the same time instead, through a stream of its own for each message: its lane.
//!
//! | step | sender | receiver |
//! |---|---|---|
//! | 1 | offers one end of the lane, in a packet | |
//! | 2 | waits for an answer, not long | waiting without a deadline: answers with one byte. Else: closes the end |
//! | 3 | no answer, or a closed end: says that the offer is withdrawn, and puts the message into a memory file | goes on with the next packet |
//! | 4 | an answer: sends frames, the last of which says how it ended | decodes them as they come |
//! | 5 | | refuses the rest: says so by one byte, and closes the end. Gives it up, or dies: closes the end |
//! | 6 | a refusal: the message was received. A closed end: puts the message into a memory file after all | |
//!
//! A receiver gives a message up that does not get on while others wait behind it: its sender may be stopped, or take its
//! time to encode.
//!
//! A frame is a header of eight bytes, and as many bytes of the message as it says; its handles travel beside the header.
//!
//! | part | bytes | meaning |
//! |---|---|---|
//! | kind | 1 | 0: a part of the message; 1: the end; 2: the message could not be encoded, so there is none; 3: the offer is withdrawn |
//! | handles | 1 | how many handles come with the header |
//! | zero | 2 | |
//! | length | 4 | how many bytes of the message follow |
//!
//! 1. A receiver never looks at a message that did not end: death in the middle is `Truncated`, and a message that could not be
//!    encoded never was.
//! 2. Handles come before the bytes that mention them, so that they can be decoded as they come.
//! 3. Only a receiver that has no deadline accepts, so nothing that promises not to wait does.
//! 4. What a frame announces is never allocated before it arrives.
//! 5. A receiver that has not seen the end of a message has not delivered it, so its sender may send it again.
//! 6. While a thread sends through a lane it opens no other, and does not wait for its turn to send: the receiver that it would
//!    wait for may be the one at the end of the lane.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use super::error::{RecvError, SendErrorReason};
use super::packet::MOST_HANDLES;
use crate::codec::{self, DecodeError, EncodeError, Source, message_limit};
use crate::handle;
use crate::message::Passage;
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::{self, Blocking, MAX_HANDLES};

const HEADER: usize = 8;

const KIND_PART: u8 = 0;
const KIND_END: u8 = 1;
const KIND_ABORT: u8 = 2;
const KIND_WITHDRAWN: u8 = 3;

/// The most bytes of a message in one frame.
const MOST_BYTES: usize = u32::MAX as usize;

/// How long a sender waits for an answer at least. A receiver that waits for a message is on its feet much earlier, unless the
/// machine is busy.
const ANSWER_WITHIN: Duration = Duration::from_millis(1);

/// How many bytes a memory file takes in a microsecond, about: so much longer a sender waits for an answer before it makes one.
const BYTES_PER_MICROSECOND: u64 = 2 << 10;

/// But no longer than this.
const ANSWER_AT_MOST: Duration = Duration::from_millis(50);

/// How long the sender of a message may pause while others wait behind it.
const PAUSE: Duration = Duration::from_millis(20);

/// What a receiver says: that it accepts an offer, or that it refuses the rest of a message.
const WORD: [u8; 1] = [1];

thread_local! {
    /// Whether this thread sends through a lane.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this thread is in the middle of sending through a lane.
pub(super) fn is_inside() -> bool {
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
pub(super) struct Sending<'a, Offer> {
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
pub(super) enum Sent {
    /// Its receiver has it, as far as it wanted to.
    Done,
    /// It has to go another way: it has not gone at all, or not to its end.
    No {
        /// Part of it has been sent, so it has to be encoded again.
        begun: bool,
    },
}

impl<'a, Offer: FnMut(BorrowedFd<'_>) -> Result<(), SendErrorReason>> Sending<'a, Offer> {
    pub(super) fn new(offers: &'a Backoff, offer: Offer) -> Self {
        Self { offers, offer, state: State::Closed }
    }

    /// Ends the message, the encoding of which gave `result`.
    pub(super) fn conclude(mut self, result: Result<(), EncodeError>) -> Result<Sent, SendErrorReason> {
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

/// Sends a frame, or several if one cannot hold everything; the last one is of `kind`.
fn send_frame(lane: &OwnedFd, kind: u8, bytes: &[u8], handles: &[OwnedFd]) -> io::Result<()> {
    let mut handles = handles;
    while handles.len() > MAX_HANDLES {
        let (some, rest) = handles.split_at(MAX_HANDLES);
        send_one_frame(lane, KIND_PART, &[], some)?;
        handles = rest;
    }
    let mut bytes = bytes;
    while bytes.len() > MOST_BYTES {
        let (some, rest) = bytes.split_at(MOST_BYTES);
        send_one_frame(lane, KIND_PART, some, handles)?;
        (bytes, handles) = (rest, &[]);
    }
    send_one_frame(lane, kind, bytes, handles)
}

fn send_one_frame(lane: &OwnedFd, kind: u8, bytes: &[u8], handles: &[OwnedFd]) -> io::Result<()> {
    let mut header = [kind, handles.len() as u8, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    let handles: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
    socket::send_all(lane.as_fd(), [IoSlice::new(&header), IoSlice::new(bytes)], &handles)
}

/// The receiver's side: a message that is arriving.
pub(super) struct Arriving<'a> {
    lane: OwnedFd,
    /// Where other messages come from.
    connection: BorrowedFd<'a>,
    /// How much of the current frame is still to come.
    left: usize,
    /// How much of the message the frames so far have announced.
    announced: u64,
    handles: usize,
    /// Those that came before decoding began.
    early: Vec<OwnedFd>,
    fate: Fate,
}

enum Fate {
    Unknown,
    Complete,
    /// It never was.
    Aborted,
    /// It comes another way, later.
    GivenUp,
    Failed(RecvError),
}

/// Why a message does not go on.
enum Trouble {
    GivenUp,
    Failed(RecvError),
}

impl From<RecvError> for Trouble {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

/// What an offer turned out to be.
pub(super) enum Offered<'a> {
    Message(Arriving<'a>),
    /// There is no message, or it comes another way.
    Nothing,
}

/// Accepts an offer that came over `connection`, and waits for what comes of it.
pub(super) fn accept(lane: OwnedFd, connection: BorrowedFd<'_>) -> Result<Offered<'_>, RecvError> {
    if !socket::is_stream(lane.as_fd()) {
        return Err(RecvError::Malformed("a lane is no stream socket"));
    }
    // If the sender is gone, or has withdrawn, the frame that follows says so.
    let _ = socket::send(lane.as_fd(), &[IoSlice::new(&WORD)], &[], Blocking::No);
    let (early, fate) = (Vec::new(), Fate::Unknown);
    let mut arriving = Arriving { lane, connection, left: 0, announced: 0, handles: 0, early, fate };
    match arriving.receive_header() {
        Ok(Some(handles)) => {
            arriving.early = handles;
            Ok(Offered::Message(arriving))
        }
        Ok(None) => Ok(Offered::Nothing),
        Err(Trouble::GivenUp) => {
            arriving.fate = Fate::GivenUp;
            Ok(Offered::Nothing)
        }
        Err(Trouble::Failed(error)) => Err(error),
    }
}

impl Arriving<'_> {
    /// What the transport has to say of the message after it was decoded: it overrules what the decoder says. `None` if the
    /// message never was, or comes another way.
    pub(super) fn conclude<T>(mut self, decoded: Result<T, DecodeError>) -> Result<Option<T>, RecvError> {
        if let Fate::Failed(error) = &mut self.fate {
            // Dropping still finds a failure.
            return Err(mem::replace(error, RecvError::Truncated));
        }
        match self.fate {
            Fate::Aborted | Fate::GivenUp => Ok(None),
            _ => decoded.map(Some).map_err(RecvError::Decode),
        }
    }

    /// Decodes the message while it arrives.
    pub(super) fn decode<T: DeserializeOwned>(mut self) -> Result<Option<T>, RecvError> {
        let early = mem::take(&mut self.early);
        let decoded = codec::decode_stream(&mut self, early);
        self.conclude(decoded)
    }

    /// Tells whether handles came with the message.
    pub(super) fn has_handles(&self) -> bool {
        self.handles > 0
    }

    /// Repeats `receive` until it does not have to wait any more. 0 is the end of the stream.
    fn receive<R>(&self, mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<R>) -> Result<R, Trouble> {
        loop {
            let error = match receive(self.lane.as_fd()) {
                Ok(received) => return Ok(received),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {}
                io::ErrorKind::ConnectionReset => return Err(RecvError::Truncated.into()),
                _ => return Err(RecvError::Io(error).into()),
            }
            if !self.wait().map_err(RecvError::Io)? {
                return Err(Trouble::GivenUp);
            }
        }
    }

    /// Waits for more of the message. False if others wait behind it, and it does not get on.
    fn wait(&self) -> io::Result<bool> {
        loop {
            let (lane, connection) = (self.lane.as_fd(), self.connection);
            let mut both = [lane, connection].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            poll::wait(&mut both, Deadline::NEVER)?;
            if !both[0].revents().is_empty() || poll::readable(lane, Deadline::after(PAUSE))? {
                return Ok(true);
            }
            // Another receiver may have taken it meanwhile.
            if poll::readable(connection, Deadline::now())? {
                return Ok(false);
            }
        }
    }

    /// Receives the next header, and the handles beside it. `None` if there is no message.
    fn receive_header(&mut self) -> Result<Option<Vec<OwnedFd>>, Trouble> {
        let mut header = [0; HEADER];
        let mut filled = 0;
        let mut handles = Vec::new();
        while filled < HEADER {
            let mut some = Vec::new();
            let received =
                self.receive(|lane| socket::receive(lane, &mut header[filled..], &mut some, Blocking::No))?;
            if received == 0 {
                return Err(RecvError::Truncated.into());
            }
            filled += received;
            handles.append(&mut some);
        }
        let [kind, count, 0, 0, length @ ..] = header else {
            return Err(RecvError::Malformed("a frame has an unknown header").into());
        };
        self.left = u32::from_le_bytes(length) as usize;
        self.handles += handles.len();
        if handles.len() != usize::from(count) || self.handles > MOST_HANDLES {
            return Err(RecvError::Malformed("a frame has another number of handles than it says").into());
        }
        self.announced += self.left as u64;
        let limit = message_limit();
        if self.announced > limit {
            return Err(RecvError::TooLarge { length: self.announced, limit }.into());
        }
        match kind {
            KIND_PART => {}
            KIND_END if self.left == 0 => self.fate = Fate::Complete,
            KIND_ABORT | KIND_WITHDRAWN if self.left == 0 => {
                self.fate = Fate::Aborted;
                return Ok(None);
            }
            _ => return Err(RecvError::Malformed("a frame is of an unknown kind").into()),
        }
        Ok(Some(handles))
    }

    fn fail(&mut self, trouble: Trouble) -> DecodeError {
        match trouble {
            Trouble::GivenUp => {
                self.fate = Fate::GivenUp;
                DecodeError::new("the message does not get on")
            }
            Trouble::Failed(error) => {
                let text = DecodeError::new(error.to_string());
                self.fate = Fate::Failed(error);
                text
            }
        }
    }

    /// Brings the rest of a frame that is not empty, or tells that the message has ended.
    fn next_bytes(&mut self) -> Result<bool, DecodeError> {
        while self.left == 0 {
            match self.fate {
                Fate::Unknown => {}
                Fate::Complete => return Ok(false),
                // Somebody goes on decoding after an error.
                _ => return Err(DecodeError::new("the message has come to an end")),
            }
            match self.receive_header() {
                Ok(Some(handles)) => handle::offer_more(handles),
                Ok(None) => return Err(DecodeError::new("the message could not be encoded")),
                Err(trouble) => return Err(self.fail(trouble)),
            }
        }
        Ok(true)
    }

    /// Receives some bytes of the current frame.
    fn next_some(
        &mut self,
        mut receive: impl FnMut(BorrowedFd<'_>, usize) -> io::Result<usize>,
    ) -> Result<usize, DecodeError> {
        if !self.next_bytes()? {
            return Ok(0);
        }
        let left = self.left;
        match self.receive(|lane| receive(lane, left)) {
            Ok(0) => Err(self.fail(RecvError::Truncated.into())),
            Ok(received) => {
                self.left -= received;
                Ok(received)
            }
            Err(trouble) => Err(self.fail(trouble)),
        }
    }
}

impl Source for Arriving<'_> {
    fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, DecodeError> {
        self.next_some(|lane, left| socket::receive_bytes(lane, into, most.min(left)))
    }

    fn read_slice(&mut self, into: &mut [u8]) -> Result<usize, DecodeError> {
        let room = into.len();
        self.next_some(|lane, left| socket::receive_slice(lane, &mut into[..room.min(left)]))
    }

    fn announced(&self) -> usize {
        self.left
    }
}

/// What was neither received to its end nor given up is refused: its sender shall not send it again.
impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if let Fate::Unknown | Fate::Failed(_) = self.fate {
            let _ = socket::send(self.lane.as_fd(), &[IoSlice::new(&WORD)], &[], Blocking::No);
        }
    }
}
