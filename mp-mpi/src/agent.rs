//! What a rank other than 0 does in place of `main`.
//!
//! An agent has the workers of its host and passes letters between them and the pool of rank 0. It
//! runs no code of the user's. If it fails, it ends the whole job, because MPI would wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use mp_core::__private::Role;
use mp_core::raw::Message;

use crate::host::{Launcher, Pause, describe, exit_at_once, say};
use crate::memory::Copies;
use crate::mpi::Mpi;
use crate::port::{Arrived, Frame, Port, PortError};
use crate::relay::{Letters, Relays};
use crate::{launcher, leader};

#[mp_core::__private::linkme::distributed_slice(mp_core::__private::ROLES)]
#[linkme(crate = mp_core::__private::linkme)]
static AGENT: Role = Role::new(applies, run);

/// Finds out whether this process is an agent. It is called before `main`.
fn applies() -> bool {
    match launcher::rank() {
        None => false,
        Some(0) => {
            leader::watch_exit();
            false
        }
        Some(_) => true,
    }
}

/// The exit code of an agent that ends because its launcher died, or because it has no MPI.
const FAILED: i32 = 1;

fn run() {
    let mpi = match Mpi::init() {
        Ok(mpi) => mpi,
        Err(error) => {
            say(format_args!("a rank has no MPI: {error}"));
            exit(FAILED);
        }
    };
    let rank = mpi.rank();
    if rank == 0 {
        say(format_args!(
            "the launcher says that this process has rank {}, and MPI says that it is alone: were they made for \
             each other? With Slurm, use `srun --mpi=pmix`",
            launcher::rank().unwrap_or(0)
        ));
        mpi.abort();
    }
    let mut port = Port::new(mpi);
    let served = catch_unwind(AssertUnwindSafe(|| serve(&mut port)));
    match served {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            say(format_args!("the agent of rank {rank} ends the job: {why}"));
            port.mpi().abort();
        }
        Err(_) => {
            say(format_args!("the agent of rank {rank} panicked, which ends the job"));
            port.mpi().abort();
        }
    }
    if let Err(error) = port.finalize() {
        say(format_args!("the agent of rank {rank} could not end: {error}"));
        exit(FAILED);
    }
}

/// Serves the pool until it has ended.
fn serve(port: &mut Port) -> Result<(), String> {
    let hello = describe().map_err(|error| format!("its executable could not be read: {error}"))?;
    port.send(0, &Frame::Hello(hello), Vec::new()).map_err(text)?;
    let mut agent = Agent { relays: None, memory: Copies::default(), launcher: Launcher::new(), pause: Pause::new() };
    let mut out = Vec::new();
    loop {
        let mut some = false;
        while let Some(arrived) = port.receive().map_err(text)? {
            some = true;
            if let Frame::Welcome { silence, .. } = &arrived.frame {
                port.set_silence(*silence);
            }
            if agent.take(arrived, &mut out)? {
                return agent.leave(port);
            }
        }
        if let Some(relays) = &mut agent.relays {
            some |= relays.turn(&mut out);
        }
        for (letter, body) in out.drain(..) {
            port.send(0, &Frame::FromWorker(letter), body).map_err(text)?;
        }
        if some {
            agent.pause.reset();
        } else {
            agent.sleep(!port.has_sent());
        }
    }
}

fn text(error: PortError) -> String {
    error.to_string()
}

struct Agent {
    /// `None` until the pool has said what it needs.
    relays: Option<Relays>,
    memory: Copies,
    launcher: Launcher,
    pause: Pause,
}

impl Agent {
    /// Takes in a frame; true if it is the last one.
    fn take(&mut self, arrived: Arrived, out: &mut Letters) -> Result<bool, String> {
        let Arrived { frame, mut body, .. } = arrived;
        match (frame, &mut self.relays) {
            (Frame::Welcome { message_limit, .. }, relays @ None) => {
                mp_core::set_message_limit(message_limit);
                *relays = Some(Relays::new(&mut body, launcher::variables())?);
            }
            (Frame::ToRank { what, memory }, Some(relays)) => {
                let descriptors = self.memory.find(&memory)?;
                relays.receive(what, Message::from_parts(body, descriptors), out)?;
            }
            (Frame::Memory(number), _) => self.memory.add(number, &body)?,
            (Frame::Forget(number), _) => self.memory.remove(number),
            (Frame::Refused, None) | (Frame::Bye, _) => return Ok(true),
            (frame, _) => return Err(format!("rank 0 sent {frame:?} at the wrong time")),
        }
        Ok(false)
    }

    /// Ends the workers that are left, and says that there are none.
    fn leave(mut self, port: &mut Port) -> Result<(), String> {
        self.relays = None;
        port.send(0, &Frame::Gone, Vec::new()).map_err(text)?;
        while !port.has_sent() {
            port.receive().map_err(text)?;
            self.sleep(true);
        }
        Ok(())
    }

    fn sleep(&mut self, is_busy: bool) {
        if self.launcher.is_gone() {
            // Without it no other rank can be reached. The kernel kills the workers.
            say(format_args!("an agent ends because its launcher has died"));
            exit_at_once();
        }
        let length = self.pause.length(is_busy || self.relays.as_ref().is_some_and(Relays::is_busy));
        match &self.relays {
            Some(relays) if relays.wait(length).is_ok() => {}
            _ => std::thread::sleep(length),
        }
    }
}
