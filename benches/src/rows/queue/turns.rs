//! Both sides of a turn, for every contender of a queue.
//!
//! The process that measures announces to each of the others how many messages the turn has, over
//! a socket, and reads the answer from it. So the messages carry nothing, and no contender needs a
//! way of its own to begin and to end.

use std::hint::spin_loop;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, sleep, yield_now};
use std::time::{Duration, Instant};

use mp_core::{Process, SpawnError};
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};

use crate::measure::Run;
use crate::partner::{Handle, read_all, sockets, write_all};
use crate::raw::now;
use crate::rows::idle::used;

/// How long a process may take to end when it is no longer needed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many messages of one size a contender keeps before the sender has to wait.
const CAPACITY: usize = 1024;

/// 64 bytes.
pub(crate) type Message = [u64; 8];

/// How many messages are in a batch.
pub(crate) const BATCH: u32 = 64;

/// What an operation sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum What {
    /// One message of 64 bytes.
    Small,
    /// A batch of such messages.
    Batch,
    /// One byte string of this length.
    Bytes(u32),
}

impl What {
    /// How many messages an operation sends.
    pub(crate) fn messages(self) -> u32 {
        if self == Self::Batch { BATCH } else { 1 }
    }

    /// How many bytes an operation sends.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Small => size_of::<Message>(),
            Self::Batch => size_of::<Message>() * BATCH as usize,
            Self::Bytes(length) => length as usize,
        }
    }

    /// How many messages a contender may keep: together 4 MiB at most.
    pub(crate) fn capacity(self) -> usize {
        ((4 << 20) / self.length()).min(CAPACITY)
    }
}

/// What the receiver answers, and so what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Figure {
    /// That it has all messages: the time from the first to the last of a stream.
    Stream,
    /// When it had a message that was sent after a pause: how long the message took.
    Arrival,
    /// The processor time that it used while it waited for a message: only that counts.
    Idle,
}

/// A wait that never sleeps. It offers its core to others now and then, because on a machine that
/// is busy the other side may need it.
#[derive(Default)]
pub(crate) struct Polling(u32);

impl Polling {
    #[inline]
    pub(crate) fn again(&mut self) {
        spin_loop();
        self.0 += 1;
        if self.0.is_multiple_of(100) {
            yield_now();
        }
    }
}

/// What is measured of a contender.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) what: What,
    pub(crate) figure: Figure,
    /// How long the receiver waits for each message, unless they are a stream.
    pub(crate) pause: Duration,
}

impl Plan {
    pub(crate) fn stream(what: What) -> Self {
        Self { what, figure: Figure::Stream, pause: Duration::ZERO }
    }
}

/// The others of a turn: processes, which end with this value, or threads, which end by themselves.
#[derive(Default)]
pub(crate) struct Crew {
    controls: Vec<OwnedFd>,
    processes: Vec<Process<()>>,
}

impl Crew {
    /// One process.
    pub(crate) fn of(start: impl FnOnce(Handle) -> Result<Process<()>, SpawnError>) -> io::Result<Self> {
        let mut crew = Self::default();
        crew.add(start)?;
        Ok(crew)
    }

    /// One more process, which gets the other end of a socket.
    pub(crate) fn add(&mut self, start: impl FnOnce(Handle) -> Result<Process<()>, SpawnError>) -> io::Result<()> {
        let theirs = self.control()?;
        self.processes.push(start(theirs)?);
        Ok(())
    }

    /// One more thread, which runs [`serve`].
    pub(crate) fn add_thread(
        &mut self,
        mut step: impl FnMut(u32) -> io::Result<u32> + Send + 'static,
        figure: Figure,
    ) -> io::Result<()> {
        let theirs = self.control()?;
        thread::spawn(move || serve(&theirs, figure, &mut step));
        Ok(())
    }

    fn control(&mut self) -> io::Result<Handle> {
        let (ours, theirs) = sockets(SocketType::SEQPACKET)?;
        self.controls.push(ours);
        Ok(Handle(theirs))
    }

    /// Tells each of them how many messages this turn has for it.
    fn announce(&self, messages: u32) -> io::Result<()> {
        self.controls.iter().try_for_each(|control| write_number(control, messages.into()))
    }

    /// Reads an answer of each of them, and returns the last one.
    pub(crate) fn answers(&self) -> io::Result<u64> {
        let ended = || io::Error::other("another side of the queue came to harm");
        self.controls.iter().try_fold(0, |_, control| read_number(control)?.ok_or_else(ended))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.controls.clear();
        for mut process in self.processes.drain(..) {
            // In the middle of a turn that failed it may wait for a message that never comes.
            match process.join_timeout(PATIENCE) {
                Ok(Some(())) => {}
                Ok(None) => drop(process.kill()),
                Err(error) => eprintln!("another side of the queue came to harm: {error}"),
            }
        }
    }
}

fn write_number(control: &OwnedFd, number: u64) -> io::Result<()> {
    write_all(control, &number.to_le_bytes())
}

/// `None` is the end.
fn read_number(control: &OwnedFd) -> io::Result<Option<u64>> {
    let mut bytes = [0; 8];
    Ok(read_all(control, &mut bytes)?.then(|| u64::from_le_bytes(bytes)))
}

/// Another side of turns. `step` sends or receives so many messages at most, and returns how many
/// it did.
pub(crate) fn serve(control: &Handle, figure: Figure, step: impl FnMut(u32) -> io::Result<u32>) {
    if let Err(error) = serve_turns(&control.0, figure, step) {
        eprintln!("a side of a queue failed: {error}");
    }
}

fn serve_turns(control: &OwnedFd, figure: Figure, mut step: impl FnMut(u32) -> io::Result<u32>) -> io::Result<()> {
    let too_many = || io::Error::other("more messages than were asked for");
    while let Some(announced) = read_number(control)? {
        let mut left = u32::try_from(announced).map_err(io::Error::other)?;
        while left > 0 {
            let before = if figure == Figure::Idle { used() } else { 0 };
            left = left.checked_sub(step(left)?).ok_or_else(too_many)?;
            match figure {
                Figure::Stream => {}
                Figure::Arrival => write_number(control, now())?,
                Figure::Idle => write_number(control, used() - before)?,
            }
        }
        if figure == Figure::Stream {
            write_number(control, 0)?;
        }
    }
    Ok(())
}

/// Tells the process that measures that this one is ready, before its first turn.
#[cfg(feature = "peers")]
pub(crate) fn ready(control: &Handle) -> io::Result<()> {
    write_number(&control.0, 0)
}

/// Turns in which this process sends, by `send` what an operation sends.
pub(crate) fn one_to_one(
    crew: Crew,
    plan: Plan,
    mut send: impl FnMut() -> io::Result<()> + 'static,
) -> io::Result<Run> {
    let messages = plan.what.messages();
    let answer = move |crew: &Crew, sent: u64| -> io::Result<u64> {
        let answer = crew.answers()?;
        Ok(if plan.figure == Figure::Arrival { answer.saturating_sub(sent) } else { answer })
    };
    Ok(Box::new(move |operations| {
        let start = Instant::now();
        crew.announce(operations * messages)?;
        if plan.figure == Figure::Stream {
            (0..operations).try_for_each(|_| send())?;
            crew.answers()?;
            return Ok(start.elapsed() / messages);
        }
        let mut nanoseconds = 0;
        for _ in 0..operations {
            sleep(plan.pause);
            let sent = now();
            send()?;
            nanoseconds += answer(&crew, sent)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }))
}

/// Turns in which this process only announces and waits, and half of the crew sends: an operation
/// is a message of each of them.
pub(crate) fn crowd(crew: Crew) -> io::Result<Run> {
    let senders = crew.controls.len() as u32 / 2;
    Ok(Box::new(move |operations| {
        let start = Instant::now();
        crew.announce(operations)?;
        crew.answers()?;
        Ok(start.elapsed() / senders)
    }))
}

/// Turns of a message there and one back.
pub(crate) fn exchanges(crew: Crew, mut exchange: impl FnMut() -> io::Result<()> + 'static) -> io::Result<Run> {
    Ok(Box::new(move |operations| {
        crew.announce(operations)?;
        let start = Instant::now();
        (0..operations).try_for_each(|_| exchange())?;
        let taken = start.elapsed();
        crew.answers()?;
        Ok(taken)
    }))
}
