//! The thread of rank 0 that calls MPI.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mp_core::raw::catch_panic;

use crate::cluster::Arrivals;
use crate::error::WorldError;
use crate::host::{Launcher, Pause, describe, exit_at_once, say};
use crate::letter::{Body, ToRank};
use crate::memory::Originals;
use crate::mpi::{self, Mpi};
use crate::outbox::Outbox;
use crate::port::{Arrived, Frame, Hello, Port, PortError};

/// How long agents have to say that they are there, after MPI has started.
const GREETING: Duration = Duration::from_secs(60);

/// The thread, and what it has found.
pub(crate) struct Leader {
    pub(crate) outbox: Arc<Outbox>,
    /// The hosts of ranks 1 and up, and this one.
    pub(crate) hosts: Vec<Hello>,
    pub(crate) own: Hello,
    begin: mpsc::Sender<(Vec<u8>, Arrivals)>,
    thread: JoinHandle<Result<usize, PortError>>,
}

impl Leader {
    /// Starts MPI and waits until all agents are there.
    pub(crate) fn start() -> Result<Self, WorldError> {
        let outbox = Arc::<Outbox>::default();
        let (greeted, greets) = mpsc::channel();
        let (begin, begins) = mpsc::channel();
        let theirs = Arc::clone(&outbox);
        let thread = std::thread::Builder::new()
            .name("mp-mpi".to_owned())
            .spawn(move || run(&theirs, &greeted, &begins))
            .map_err(WorldError::Thread)?;
        match greets.recv().unwrap_or_else(|_| Err(WorldError::Mpi("its thread has ended".to_owned()))) {
            Ok((hosts, own)) => {
                outbox.wakes(thread.thread().clone());
                Ok(Self { outbox, hosts, own, begin, thread })
            }
            Err(error) => {
                // It ends the agents and MPI. This error is the one that matters.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// Gives the thread what it passes letters to.
    pub(crate) fn begin(&self, setup: Vec<u8>, arrivals: Arrivals) {
        // If the thread has ended, so has the process.
        let _ = self.begin.send((setup, arrivals));
    }

    /// Ends the agents and MPI. The pool has no worker any more. Returns how many ranks were lost.
    pub(crate) fn end(self) -> Result<usize, PortError> {
        let Self { outbox, begin, thread, .. } = self;
        drop(begin);
        outbox.end();
        thread.join().unwrap_or(Err(PortError::Panicked))
    }
}

/// The process whose exit ends the agents, if it made no pool.
static WATCHED: AtomicU32 = AtomicU32::new(0);

/// Whether this process has made its pool, or ends the agents without one.
static MADE: AtomicBool = AtomicBool::new(false);

/// Begins to make the pool; false if that was done before.
pub(crate) fn begin_world() -> bool {
    !MADE.swap(true, Ordering::SeqCst)
}

/// Has the agents end when this process, rank 0, exits without having made a pool. They wait for it
/// in `MPI_Init`, and not every launcher notices that it has ended.
pub(crate) fn watch_exit() {
    WATCHED.store(std::process::id(), Ordering::SeqCst);
    mpi::at_exit(dismiss_unused);
}

extern "C" fn dismiss_unused() {
    // A copy that `fork` made exits as well.
    if WATCHED.load(Ordering::SeqCst) == std::process::id() && begin_world() {
        // A panic must not unwind into the C library. The panic hook prints it.
        let _ = std::panic::catch_unwind(|| {
            let Ok(mpi) = Mpi::init() else { return };
            let mut rank = Rank { port: Port::new(mpi), launcher: Launcher::new(), pause: Pause::new() };
            match rank.greet().and_then(|_| rank.dismiss(&Frame::Refused)) {
                Ok(()) => drop(rank.port.finalize()),
                Err(_) => rank.port.mpi().abort(),
            }
        });
    }
}

type Greeted = Result<(Vec<Hello>, Hello), WorldError>;

fn run(
    outbox: &Outbox,
    greeted: &mpsc::Sender<Greeted>,
    begins: &mpsc::Receiver<(Vec<u8>, Arrivals)>,
) -> Result<usize, PortError> {
    let mpi = match Mpi::init() {
        Ok(mpi) => mpi,
        Err(error) => {
            let _ = greeted.send(Err(WorldError::Mpi(error.to_string())));
            return Ok(0);
        }
    };
    let mut rank = Rank { port: Port::new(mpi), launcher: Launcher::new(), pause: Pause::new() };
    let lead = catch_panic(|| lead(&mut rank, outbox, greeted, begins));
    match lead {
        Ok(Ok(())) => {
            let lost = rank.port.lost().len();
            rank.port.finalize().map(|()| lost)
        }
        Ok(Err(error)) => {
            say(format_args!("rank 0 ends the job: {error}"));
            rank.port.mpi().abort()
        }
        Err(_) => {
            say(format_args!("rank 0 ends the job: its thread for MPI panicked"));
            rank.port.mpi().abort()
        }
    }
}

struct Rank {
    port: Port,
    launcher: Launcher,
    pause: Pause,
}

fn lead(
    rank: &mut Rank,
    outbox: &Outbox,
    greeted: &mpsc::Sender<Greeted>,
    begins: &mpsc::Receiver<(Vec<u8>, Arrivals)>,
) -> Result<(), PortError> {
    let hosts = match rank.greet()? {
        Ok(hosts) => hosts,
        Err(error) => {
            rank.dismiss(&Frame::Refused)?;
            let _ = greeted.send(Err(error));
            return Ok(());
        }
    };
    let memory = Originals::new(hosts.0.iter().map(|hello| hello.memory).min().unwrap_or(0) / 4);
    let _ = greeted.send(Ok(hosts));
    // `world` gives it, or fails and ends this.
    if let Ok((setup, arrivals)) = begins.recv() {
        for agent in 1..rank.port.mpi().size() {
            let (message_limit, silence) = (mp_core::message_limit(), rank.port.silence());
            rank.port.send(agent, &Frame::Welcome { message_limit, silence }, setup.clone())?;
        }
        rank.serve(outbox, arrivals, memory)?;
    }
    rank.dismiss(&Frame::Bye)
}

impl Rank {
    /// Waits until all agents have said what they are.
    fn greet(&mut self) -> Result<Greeted, PortError> {
        let own = match describe() {
            Ok(own) => own,
            Err(error) => return Ok(Err(WorldError::Executable(error))),
        };
        let mut hosts: Vec<Option<Hello>> = vec![None; self.port.mpi().size() - 1];
        let deadline = Instant::now() + GREETING;
        while hosts.iter().any(Option::is_none) {
            let arrived = self.port.receive()?;
            if let Some(lost) = self.port.lost().first() {
                return Err(PortError::Lost(*lost));
            }
            match arrived {
                Some(Arrived { from, frame: Frame::Hello(hello), .. }) if from > 0 => hosts[from - 1] = Some(hello),
                Some(Arrived { from, frame, .. }) => {
                    return Err(PortError::Broken(from, format!("{frame:?} in place of a greeting")));
                }
                None if Instant::now() > deadline => {
                    let silent = hosts.iter().position(Option::is_none).map_or(0, |index| index + 1);
                    return Err(PortError::Broken(silent, "nothing for a minute".to_owned()));
                }
                None => std::thread::sleep(self.pause.length(true)),
            }
        }
        let hosts: Vec<Hello> = hosts.into_iter().flatten().collect();
        let other = hosts.iter().enumerate().find(|(_, hello)| hello.build != own.build);
        Ok(match other {
            Some((index, hello)) => Err(WorldError::OtherBuild { rank: index + 1, host: hello.host.clone() }),
            None => Ok((hosts, own)),
        })
    }

    /// Sends a letter, and before it the frozen memory in it that the rank does not have.
    fn post(&mut self, rank: usize, what: ToRank, body: Body, originals: &mut Originals) -> Result<(), PortError> {
        let mut memory = Vec::new();
        let body = match body {
            Body::Bytes(bytes) => bytes,
            Body::Message(message) => {
                let own = |error: String| PortError::Broken(0, error);
                for file in message.descriptors() {
                    let mut frames = Vec::new();
                    let number = originals.number(rank, file.as_fd(), &mut frames);
                    memory.push(number.map_err(|error| own(error.to_string()))?);
                    for (rank, frame, body) in frames {
                        self.port.send(rank, &frame, body)?;
                    }
                }
                message.to_vec().map_err(|error| own(error.to_string()))?
            }
        };
        self.port.send(rank, &Frame::ToRank { what, memory }, body)
    }

    /// Passes letters on until the pool has ended.
    fn serve(&mut self, outbox: &Outbox, mut arrivals: Arrivals, mut memory: Originals) -> Result<(), PortError> {
        let (mut is_busy, mut lost) = (false, 0);
        loop {
            let mut some = false;
            for (rank, what, body) in outbox.take() {
                some = true;
                self.post(rank, what, body, &mut memory)?;
            }
            while let Some(Arrived { from, frame, body }) = self.port.receive()? {
                some = true;
                let Frame::FromWorker(letter) = frame else {
                    return Err(PortError::Broken(from, format!("{frame:?} at the wrong time")));
                };
                arrivals.take_in(letter, body);
            }
            for rank in self.port.lost().iter().skip(lost) {
                // After what it said before.
                say(format_args!("rank {rank} was lost, and the pool goes on without it"));
                arrivals.lost(*rank);
            }
            lost = self.port.lost().len();
            arrivals.settle();
            if some {
                self.pause.reset();
                is_busy = true;
            } else if outbox.has_ended() {
                return Ok(());
            } else {
                self.check_launcher();
                let length = self.pause.length(is_busy && arrivals.is_busy());
                outbox.sleep(if self.port.has_sent() { length } else { length.min(Duration::from_micros(200)) });
            }
        }
    }

    fn check_launcher(&self) {
        if self.launcher.is_gone() {
            // Without it no other rank can be reached. The kernel kills the workers.
            say(format_args!("rank 0 ends because its launcher has died"));
            exit_at_once();
        }
    }

    /// Ends the agents, and waits until each has said that it has no worker any more.
    fn dismiss(&mut self, frame: &Frame) -> Result<(), PortError> {
        let mut left: HashSet<usize> = (1..self.port.mpi().size()).collect();
        for agent in &left {
            self.port.send(*agent, frame, Vec::new())?;
        }
        loop {
            let arrived = self.port.receive()?;
            left.retain(|agent| !self.port.lost().contains(agent));
            match arrived {
                Some(Arrived { from, frame: Frame::Gone, .. }) => drop(left.remove(&from)),
                // What an agent said before it knew.
                Some(_) => {}
                None if left.is_empty() && self.port.has_sent() => return Ok(()),
                None => {
                    self.check_launcher();
                    std::thread::sleep(self.pause.length(true));
                }
            }
        }
    }
}
