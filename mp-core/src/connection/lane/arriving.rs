//! The receiver's side of a lane.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde::de::DeserializeOwned;

use super::WORD;
use super::frame::{HEADER, KIND_ABORT, KIND_END, KIND_PART, KIND_WITHDRAWN};
use crate::codec::{self, DecodeError, Source, message_limit};
use crate::connection::error::RecvError;
use crate::connection::packet::MOST_HANDLES;
use crate::handle;
use crate::sys::poll::{self, Deadline};
use crate::sys::socket::{self, Blocking};

/// How long the sender of a message may pause while others wait behind it.
const PAUSE: Duration = Duration::from_millis(20);

/// The receiver's side: a message that is arriving.
pub(crate) struct Arriving<'a> {
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
pub(crate) enum Offered<'a> {
    Message(Arriving<'a>),
    /// There is no message, or it comes another way.
    Nothing,
}

/// Accepts an offer that came over `connection`, and waits for what comes of it.
pub(crate) fn accept(lane: OwnedFd, connection: BorrowedFd<'_>) -> Result<Offered<'_>, RecvError> {
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
    pub(crate) fn conclude<T>(mut self, decoded: Result<T, DecodeError>) -> Result<Option<T>, RecvError> {
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
    pub(crate) fn decode<T: DeserializeOwned>(mut self) -> Result<Option<T>, RecvError> {
        let early = mem::take(&mut self.early);
        let decoded = codec::decode_stream(&mut self, early);
        self.conclude(decoded)
    }

    /// Tells whether handles came with the message.
    pub(crate) fn has_handles(&self) -> bool {
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
        if handles.len() != usize::from(count) {
            return Err(RecvError::Malformed("a frame has another number of handles than it says").into());
        }
        if self.handles > MOST_HANDLES {
            return Err(RecvError::Malformed("frames bring more handles than any message has").into());
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
