//! Frames between ranks: what travels in MPI's messages.
//!
//! A frame is a prefix (the lengths), a [`Frame`] that says what it is, and a body. MPI delivers
//! the messages of a rank in order. A short frame is one message. A longer body follows its frame
//! in messages of at most [`Port::most`] bytes, because MPI counts bytes in an `int`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mp_core::raw::{Message, decode_plain, error_chain};
use serde::{Deserialize, Serialize};

use crate::letter::{FromWorker, ToRank};
use crate::mpi::{Mpi, MpiError, Transfer};
use crate::watch::{self, Watch};

/// What a frame is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// The first word of an agent.
    Hello(Hello),
    /// The answer: what the agent needs to start workers. The body is the setup of the pool.
    Welcome { message_limit: u64, silence: Option<Duration> },
    /// The other answer. The agent acknowledges it and ends.
    Refused,
    /// A letter to a rank, and the frozen memory in its body.
    ToRank { what: ToRank, memory: Vec<u64> },
    /// A letter of a worker.
    FromWorker(FromWorker),
    /// Frozen memory, which letters name by this number. The body is its content.
    Memory(u64),
    /// No letter names this memory any more, unless it is sent again.
    Forget(u64),
    /// The rank has nothing to say. [`Port::receive`] returns none of these.
    Alive,
    /// The pool has ended. The agent acknowledges it and ends.
    Bye,
    /// The acknowledgement, the last word of an agent: it has no worker any more.
    Gone,
}

/// What an agent says about its host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) build: u64,
    pub(crate) host: String,
    /// How many processors the agent may use.
    pub(crate) cores: usize,
    /// The memory of the host, in bytes.
    pub(crate) memory: u64,
}

/// A frame that has come.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) from: usize,
    pub(crate) frame: Frame,
    pub(crate) body: Vec<u8>,
}

/// Why there is no frame: MPI failed, or a rank sent what is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("{0}")]
    Mpi(MpiError),
    #[error("rank {0} sent what is no frame: {1}")]
    Broken(usize, String),
    #[error("rank {0} was lost")]
    Lost(usize),
    #[error("rank {0} has said nothing for {1:?}, as if its host was cut off")]
    Silent(usize, Duration),
    #[error("the thread of rank 0 that calls MPI panicked")]
    Panicked,
}

impl From<MpiError> for PortError {
    fn from(error: MpiError) -> Self {
        Self::Mpi(error)
    }
}

/// The lengths of the frame and of the body.
const PREFIX: usize = 4 + 8;

/// A body of at most this many bytes is in the message of its frame.
const TOGETHER: usize = 64 << 10;

/// The longest message, unless a test sets another length: 1 GiB.
const MOST: usize = 1 << 30;

/// The variable that sets the longest message, in bytes, for tests.
const MOST_VARIABLE: &str = "MP_MPI_LONGEST_MESSAGE";

/// How far a transfer is.
enum Step {
    /// With what was received.
    Done(Vec<u8>),
    Waits(Transfer),
    /// Its rank was lost, so it may never be done.
    Lost,
}

/// Sends and receives frames.
pub(crate) struct Port {
    mpi: Mpi,
    most: usize,
    sending: VecDeque<Transfer>,
    /// In the order in which they were sent, as far as they are of one rank.
    receiving: VecDeque<Transfer>,
    /// By rank: the frame whose body is on its way, and the body's length.
    partial: Vec<Option<(Arrived, usize)>>,
    /// The ranks that were lost, in the order in which that became known.
    lost: Vec<usize>,
    watch: Watch,
}

impl Port {
    pub(crate) fn new(mpi: Mpi) -> Self {
        let most = std::env::var(MOST_VARIABLE).ok().and_then(|most| most.parse().ok());
        let partial = (0..mpi.size()).map(|_| None).collect();
        let others = if mpi.rank() == 0 { 1..mpi.size() } else { 0..1 };
        Self {
            most: most.unwrap_or(MOST).clamp(1, MOST),
            mpi,
            sending: VecDeque::new(),
            receiving: VecDeque::new(),
            partial,
            lost: Vec::new(),
            watch: Watch::new(others, watch::limit(), Instant::now()),
        }
    }

    /// How long a rank may be silent; `None` is no limit.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.watch.limit()
    }

    pub(crate) fn set_silence(&mut self, limit: Option<Duration>) {
        self.watch.set_limit(limit);
    }

    pub(crate) fn mpi(&self) -> &Mpi {
        &self.mpi
    }

    /// The ranks that were lost, in the order in which that became known.
    pub(crate) fn lost(&self) -> &[usize] {
        &self.lost
    }

    /// Finds out whether a call failed only because ranks were lost: the one that it concerned, or,
    /// if it concerned all, one that was not known.
    fn excuse(&mut self, of: Option<usize>, error: MpiError) -> Result<(), PortError> {
        let known = self.lost.len();
        for rank in self.mpi.lost()? {
            if !self.lost.contains(&rank) {
                self.lost.push(rank);
                self.partial[rank] = None;
                self.watch.forget(rank);
            }
        }
        match of {
            _ if self.lost.contains(&0) => Err(PortError::Lost(0)),
            Some(rank) if self.lost.contains(&rank) => Ok(()),
            None if self.lost.len() > known => Ok(()),
            _ => Err(PortError::Mpi(error)),
        }
    }

    /// Begins to send a frame. It does not wait. What is for a lost rank is dropped.
    pub(crate) fn send(&mut self, rank: usize, frame: &Frame, body: Vec<u8>) -> Result<(), PortError> {
        if self.lost.contains(&rank) {
            return Ok(());
        }
        if let Frame::Refused | Frame::Bye | Frame::Gone = frame {
            // What comes after it may be received by nobody.
            self.watch.fall_silent();
        }
        let mut bytes = vec![0; PREFIX];
        let encoded = Message::append(frame, &mut bytes, usize::MAX, None);
        if let Err(error) = encoded {
            return Err(PortError::Broken(self.mpi.rank(), error_chain(&error)));
        }
        let length = (bytes.len() - PREFIX) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..PREFIX].copy_from_slice(&(body.len() as u64).to_le_bytes());
        let buffers = if body.len() <= TOGETHER {
            bytes.extend_from_slice(&body);
            [bytes, Vec::new()]
        } else {
            [bytes, body]
        };
        // What says what follows is one message.
        let most = if buffers[1].is_empty() { MOST } else { self.most.max(buffers[0].len()) };
        let (sending, result) = self.mpi.send(rank, buffers, most);
        self.sending.push_back(sending);
        result.or_else(|error| self.excuse(Some(rank), error))
    }

    /// Whether everything has left.
    pub(crate) fn has_sent(&self) -> bool {
        self.sending.is_empty()
    }

    /// Says that this rank is alive, and finds out whether the others are.
    fn keep_watch(&mut self) -> Result<(), PortError> {
        if self.watch.look(Instant::now()) {
            for rank in self.watch.ranks() {
                self.send(rank, &Frame::Alive, Vec::new())?;
            }
        }
        let receives = |rank| self.receiving.iter().any(|transfer| transfer.rank == rank);
        match (self.watch.silent(receives), self.watch.limit()) {
            (Some(rank), Some(limit)) => Err(PortError::Silent(rank, limit)),
            _ => Ok(()),
        }
    }

    /// Sees to what is on its way, and takes one frame that has come. Returns `None` if there is
    /// none.
    pub(crate) fn receive(&mut self) -> Result<Option<Arrived>, PortError> {
        self.keep_watch()?;
        for sending in std::mem::take(&mut self.sending) {
            if let Step::Waits(sending) = self.step(sending)? {
                self.sending.push_back(sending);
            }
        }
        loop {
            match self.mpi.probe() {
                Ok(Some(waiting)) => match self.mpi.receive(waiting) {
                    Ok(receiving) => {
                        self.watch.hear(receiving.rank);
                        self.receiving.push_back(receiving);
                    }
                    Err(error) => self.excuse(Some(waiting.source), error)?,
                },
                Ok(None) => break,
                Err(error) => self.excuse(None, error)?,
            }
        }
        // Ranks of which something is on its way that comes first.
        let (mut behind, mut index) = (Vec::new(), 0);
        while let Some(receiving) = self.receiving.remove(index) {
            let from = receiving.rank;
            let step = if behind.contains(&from) { Step::Waits(receiving) } else { self.step(receiving)? };
            match step {
                Step::Done(bytes) => {
                    self.watch.hear(from);
                    match self.take(from, bytes)? {
                        None | Some(Arrived { frame: Frame::Alive, .. }) => {}
                        Some(arrived) => {
                            if let Frame::Gone = arrived.frame {
                                self.watch.forget(from);
                            }
                            return Ok(Some(arrived));
                        }
                    }
                }
                Step::Waits(receiving) => {
                    self.receiving.insert(index, receiving);
                    behind.push(from);
                    index += 1;
                }
                Step::Lost => {}
            }
        }
        Ok(None)
    }

    /// Looks whether a transfer is done. Of a lost rank nothing is taken in, because what came
    /// before it may be missing.
    fn step(&mut self, mut transfer: Transfer) -> Result<Step, PortError> {
        let is_done = match self.mpi.is_done(&mut transfer) {
            Ok(is_done) => is_done,
            Err(error) => self.excuse(Some(transfer.rank), error).map(|()| false)?,
        };
        Ok(match is_done {
            _ if self.lost.contains(&transfer.rank) => {
                transfer.abandon();
                Step::Lost
            }
            true => Step::Done(transfer.into_bytes()),
            false => Step::Waits(transfer),
        })
    }

    /// Takes in a message; returns the frame if it is whole.
    fn take(&mut self, from: usize, mut bytes: Vec<u8>) -> Result<Option<Arrived>, PortError> {
        let broken = |what: String| PortError::Broken(from, what);
        let partial = self.partial.get_mut(from).ok_or_else(|| broken("there is no such rank".to_owned()))?;
        if let Some((arrived, length)) = partial {
            if bytes.len() > *length - arrived.body.len() {
                return Err(broken("it is longer than it said".to_owned()));
            }
            if bytes.len() == *length {
                arrived.body = bytes;
            } else {
                let reserved = arrived.body.try_reserve_exact(*length - arrived.body.len());
                reserved.map_err(|error| broken(format!("there is no memory for {length} bytes: {error}")))?;
                arrived.body.append(&mut bytes);
            }
            let is_whole = arrived.body.len() == *length;
            return Ok(if is_whole { partial.take().map(|(arrived, _)| arrived) } else { None });
        }
        let short = || broken("it is too short".to_owned());
        let (prefix, rest) = bytes.split_at_mut_checked(PREFIX).ok_or_else(short)?;
        let (frame, length) = prefix.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let (frame, length) = (number(frame) as usize, number(length) as usize);
        let (frame, body) = rest.split_at_mut_checked(frame).ok_or_else(short)?;
        let frame = decode_plain(frame).map_err(|error| broken(error_chain(&error)))?;
        if body.len() == length {
            return Ok(Some(Arrived { from, frame, body: body.to_vec() }));
        }
        if !body.is_empty() {
            return Err(broken("its body has another length".to_owned()));
        }
        *partial = Some((Arrived { from, frame, body: Vec::new() }, length));
        Ok(None)
    }

    /// Finalises MPI, when all ranks do so that were not lost.
    pub(crate) fn finalize(self) -> Result<(), PortError> {
        Ok(self.mpi.finalize()?)
    }
}
