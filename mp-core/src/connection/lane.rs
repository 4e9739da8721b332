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

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

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
const MOST_BYTES: usize = 1 << 30;

/// How long a sender waits for an answer at least. A receiver that waits for a message is on its feet much earlier, unless the
/// machine is busy.
const ANSWER_WITHIN: Duration = Duration::from_millis(1);

/// How many bytes a memory file takes in a microsecond, about: so much longer a sender waits for an answer before it makes one.
const BYTES_PER_MICROSECOND: u64 = 2 << 10;

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
    Open(OwnedFd),
    /// The receiver has closed its end: it is dead, or does not want the rest.
    Left,
    /// The offer could not be made.
    Failed(SendErrorReason),
}

/// What became of a message.
pub(super) enum Sent {
    /// It went through the lane.
    Whole,
    /// As much of it went as its receiver wanted.
    InPart,
    /// It did not go this way.
    No,
}

impl<'a, Offer: FnMut(BorrowedFd<'_>) -> Result<(), SendErrorReason>> Sending<'a, Offer> {
    pub(super) fn new(offers: &'a Backoff, offer: Offer) -> Self {
        Self { offers, offer, state: State::Closed }
    }

    /// Ends the message, the encoding of which gave `result`.
    pub(super) fn conclude(self, result: Result<(), EncodeError>) -> Result<Sent, SendErrorReason> {
        match (self.state, result) {
            (State::Failed(reason), _) => Err(reason),
            (State::Left, _) => Ok(Sent::InPart),
            (State::Closed, Ok(())) => Ok(Sent::No),
            (State::Closed, Err(error)) => Err(SendErrorReason::Encode(error)),
            (State::Open(lane), Ok(())) => match send_frame(&lane, KIND_END, &[], &[]) {
                Ok(()) => Ok(Sent::Whole),
                Err(error) if is_gone(&error) => Ok(Sent::InPart),
                Err(error) => Err(SendErrorReason::Io(error)),
            },
            (State::Open(lane), Err(error)) => {
                // To a receiver that is gone there is nothing to take back.
                let _ = send_frame(&lane, KIND_ABORT, &[], &[]);
                Err(SendErrorReason::Encode(error))
            }
        }
    }

    fn try_open(&mut self, least: u64) -> Result<Option<OwnedFd>, SendErrorReason> {
        if !self.offers.take_chance() {
            return Ok(None);
        }
        // Without descriptors the memory file cannot be made either, and that says so.
        let Ok((mine, theirs)) = socket::stream_pair() else { return Ok(None) };
        (self.offer)(theirs.as_fd())?;
        drop(theirs);
        let mut answer = [0; 1];
        let patience = ANSWER_WITHIN + Duration::from_micros(least / BYTES_PER_MICROSECOND);
        let answered = poll::readable(mine.as_fd(), Deadline::after(patience)).map_err(SendErrorReason::Io)?
            && matches!(socket::receive(mine.as_fd(), &mut answer, &mut Vec::new(), Blocking::No), Ok(1));
        self.offers.note(answered);
        if answered {
            return Ok(Some(mine));
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
        let State::Open(lane) = &self.state else { return Err(EncodeError::new("the lane is closed")) };
        let result = send_frame(lane, KIND_PART, bytes, &handle::fetch_collected());
        result.map_err(|error| {
            self.state = if is_gone(&error) { State::Left } else { State::Failed(SendErrorReason::Io(error)) };
            EncodeError::new("the message could not be sent to its end")
        })
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
pub(super) struct Arriving {
    lane: OwnedFd,
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
    Aborted,
    Failed(RecvError),
}

/// What an offer turned out to be.
pub(super) enum Offered {
    Message(Arriving),
    /// There is no message, or it comes another way.
    Nothing,
}

/// Accepts an offer, and waits for what comes of it.
pub(super) fn accept(lane: OwnedFd) -> Result<Offered, RecvError> {
    if !socket::is_stream(lane.as_fd()) {
        return Err(RecvError::Malformed("a lane is no stream socket"));
    }
    // If the sender is gone, or has withdrawn, the frame that follows says so.
    let _ = socket::send(lane.as_fd(), &[IoSlice::new(&[1])], &[], Blocking::No);
    let mut arriving = Arriving { lane, left: 0, announced: 0, handles: 0, early: Vec::new(), fate: Fate::Unknown };
    Ok(match arriving.receive_header()? {
        Some(handles) => {
            arriving.early = handles;
            Offered::Message(arriving)
        }
        None => Offered::Nothing,
    })
}

impl Arriving {
    /// What the transport has to say of the message after it was decoded: it overrules what the decoder says. `None` if the
    /// message never was.
    pub(super) fn conclude<T>(self, decoded: Result<T, DecodeError>) -> Result<Option<T>, RecvError> {
        match self.fate {
            Fate::Aborted => Ok(None),
            Fate::Failed(error) => Err(error),
            Fate::Complete | Fate::Unknown => decoded.map(Some).map_err(RecvError::Decode),
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

    /// Receives the next header, and the handles beside it. `None` if there is no message.
    fn receive_header(&mut self) -> Result<Option<Vec<OwnedFd>>, RecvError> {
        let mut header = [0; HEADER];
        let mut filled = 0;
        let mut handles = Vec::new();
        while filled < HEADER {
            let mut some = Vec::new();
            filled += match socket::receive(self.lane.as_fd(), &mut header[filled..], &mut some, Blocking::Yes) {
                Ok(0) => return Err(RecvError::Truncated),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Its sender has made it non-blocking.
                    poll::readable(self.lane.as_fd(), Deadline::NEVER).map_err(RecvError::Io)?;
                    0
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(RecvError::Truncated),
                Err(error) => return Err(RecvError::Io(error)),
            };
            handles.append(&mut some);
        }
        let [kind, count, 0, 0, length @ ..] = header else {
            return Err(RecvError::Malformed("a frame has an unknown header"));
        };
        self.left = u32::from_le_bytes(length) as usize;
        self.handles += handles.len();
        if handles.len() != usize::from(count) || self.handles > MOST_HANDLES {
            return Err(RecvError::Malformed("a frame has another number of handles than it says"));
        }
        self.announced += self.left as u64;
        let limit = message_limit();
        if self.announced > limit {
            return Err(RecvError::TooLarge { length: self.announced, limit });
        }
        match kind {
            KIND_PART => {}
            KIND_END if self.left == 0 => self.fate = Fate::Complete,
            KIND_ABORT | KIND_WITHDRAWN if self.left == 0 => {
                self.fate = Fate::Aborted;
                return Ok(None);
            }
            _ => return Err(RecvError::Malformed("a frame is of an unknown kind")),
        }
        Ok(Some(handles))
    }

    fn fail(&mut self, error: RecvError) -> DecodeError {
        let text = DecodeError::new(error.to_string());
        self.fate = Fate::Failed(error);
        text
    }

    /// Brings the rest of a frame that is not empty, or tells that the message has ended.
    fn next_bytes(&mut self) -> Result<bool, DecodeError> {
        while self.left == 0 {
            if let Fate::Complete = self.fate {
                return Ok(false);
            }
            match self.receive_header() {
                Ok(Some(handles)) => handle::offer_more(handles),
                Ok(None) => return Err(DecodeError::new("the message could not be encoded")),
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(true)
    }

    /// Receives some bytes of the current frame.
    fn receive_some(
        &mut self,
        mut receive: impl FnMut(BorrowedFd<'_>, usize) -> io::Result<usize>,
    ) -> Result<usize, RecvError> {
        loop {
            match receive(self.lane.as_fd(), self.left) {
                Ok(0) => return Err(RecvError::Truncated),
                Ok(received) => {
                    self.left -= received;
                    return Ok(received);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll::readable(self.lane.as_fd(), Deadline::NEVER).map_err(RecvError::Io)?;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(RecvError::Truncated),
                Err(error) => return Err(RecvError::Io(error)),
            }
        }
    }
}

impl Source for Arriving {
    fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, DecodeError> {
        if !self.next_bytes()? {
            return Ok(0);
        }
        self.receive_some(|lane, left| socket::receive_bytes(lane, into, most.min(left)))
            .map_err(|error| self.fail(error))
    }

    fn read_slice(&mut self, into: &mut [u8]) -> Result<usize, DecodeError> {
        if !self.next_bytes()? {
            return Ok(0);
        }
        self.receive_some(|lane, left| {
            let most = into.len().min(left);
            socket::receive_slice(lane, &mut into[..most])
        })
        .map_err(|error| self.fail(error))
    }

    fn announced(&self) -> usize {
        self.left
    }
}
