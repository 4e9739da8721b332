//! What a fork server does in its process.
//!
//! 1. It makes the calls that it preloads, and then checks that it can be copied: that it has one
//!    thread, and no open file that copies would share by accident.
//! 2. For each [`Order::Fork`] it forks. The copy reads its [`Birth`] from its control socket,
//!    where the caller has put it before, applies the settings and sends [`Report::Forked`] to the
//!    caller, with a pidfd of itself, or [`Report::NotForked`]. From there on it is a child like
//!    any other.
//! 3. Since Linux 6.15 the kernel tells the caller how the copy ended, and reaps it, so the server
//!    does nothing. Before, the kernel tells only a parent: the server reaps the copy, and sends
//!    the status to the caller.
//! 4. When no [`ForkServer`](super::ForkServer) is left that could send requests, the server goes
//!    on until its children have ended.
//!
//! The server does not wait for a copy, and nothing that one caller does holds up another. Each
//! page that it writes to is copied at the next fork, and each one that a copy writes to as well.
//! That takes most of the time of a fork, so the server reads and keeps as little as can be.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::thread;
use std::time::Duration;

use mp_macros::process_fn;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitOptions, fchdir, getpid, setpgid, setsid, wait};
use serde::{Deserialize, Serialize};

use super::SpawnError;
use super::limits::Limits;
use crate::boot::{self, Report, Start};
use crate::call::EncodedCall;
use crate::connection::{Connection, RecvError, Sender};
use crate::descriptor::SharedFd;
use crate::outcome::Outcome;
use crate::sys::forking::{self, Signals};
use crate::sys::poll::Deadline;
use crate::sys::strings::Strings;
use crate::sys::{process, runtime};
pub(super) use entry::serve as server;

/// From the owner of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first one: to make these calls.
    Load(Load),
    /// To make a process.
    Fork {
        /// The end of its control socket, in which its [`Birth`] is.
        control: SharedFd,
        /// Where the server sends how the process ended, as wait(2) returns it, if the kernel does
        /// not tell that.
        status: Option<Sender<i32>>,
    },
}

/// What a server calls.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) preload: Vec<EncodedCall>,
    /// The calls that each copy makes before its own.
    pub(super) hooks: Vec<EncodedCall>,
}

/// What makes a copy of the server a process of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Birth {
    pub(super) settings: Settings,
    pub(super) start: Start,
}

/// What the new process applies before it says that it exists.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) directory: SharedFd,
    /// `None` is a stream that is closed.
    pub(super) streams: [Option<SharedFd>; 3],
    pub(super) environment: Strings,
    /// What `ps` shows.
    #[serde(with = "serde_bytes")]
    pub(super) title: Vec<u8>,
    pub(super) limits: Limits,
    pub(super) new_session: bool,
    pub(super) new_group: bool,
}

/// Whether a server can serve.
#[derive(Serialize, Deserialize)]
pub(super) enum Ready {
    Yes {
        /// Whether the kernel tells how its copies end.
        kernel_tells: bool,
    },
    /// The preload has made a PID namespace, in which the copies would be.
    Namespace,
    /// A call of the preload had this outcome.
    Preload(Outcome),
    /// The preload has left these threads.
    Threads(Vec<String>),
    /// The preload has left these files open.
    Descriptors(Vec<String>),
}

#[allow(unsafe_code, reason = "the attribute puts the function into a section of the executable")]
mod entry {
    use super::{Connection, Order, Ready, process_fn};

    /// Runs a fork server.
    #[process_fn(name = "mp_core::fork_server")]
    pub(in super::super) fn serve(owner: Connection<Ready, Order>) {
        super::serve(owner);
    }
}

fn serve(owner: Connection<Ready, Order>) {
    let before = forking::open_descriptors();
    let Ok(Order::Load(Load { preload, hooks })) = owner.recv() else { return };
    let ready = before.and_then(|mut before| {
        before.extend(hooks.iter().flat_map(EncodedCall::descriptors));
        prepare(preload, &before)
    });
    let ready = ready.unwrap_or_else(|error| {
        Ready::Descriptors(vec![format!("the threads and descriptors of the server could not be listed: {error}")])
    });
    let Ready::Yes { kernel_tells } = ready else { return drop(owner.send(ready)) };
    let signals = Signals::take(kernel_tells);
    if owner.send(ready).is_ok() {
        let mut own = boot::own_descriptors();
        own.push(owner.as_fd().as_raw_fd());
        Server { owner, hooks, own, signals, children: HashMap::new() }.run();
    }
}

/// How long threads may take to end after the preload.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Makes the calls, and checks what they have left, but for the descriptors that were open
/// `before`.
fn prepare(preload: Vec<EncodedCall>, before: &[RawFd]) -> io::Result<Ready> {
    for call in preload {
        match call.run() {
            Outcome::Returned(_) => {}
            outcome => return Ok(Ready::Preload(outcome)),
        }
    }
    // A thread that was joined may take a moment to go, and one that unmaps a large buffer ends
    // soon.
    let deadline = Deadline::after(LAST_THREADS);
    loop {
        let threads = forking::other_threads()?;
        if threads.is_empty() {
            break;
        }
        if deadline.has_passed() {
            return Ok(Ready::Threads(threads));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let opened = forking::open_descriptors()?.into_iter().filter(|number| !before.contains(number));
    let shared: Vec<_> = opened.filter_map(forking::shared_by_accident).collect();
    if !shared.is_empty() {
        return Ok(Ready::Descriptors(shared));
    }
    if process::children_are_in_another_namespace() {
        return Ok(Ready::Namespace);
    }
    // The server itself prints nothing.
    forking::flush();
    Ok(Ready::Yes { kernel_tells: forking::kernel_tells_status() })
}

struct Server {
    owner: Connection<Ready, Order>,
    /// The calls that each copy makes first.
    hooks: Vec<EncodedCall>,
    /// The descriptors that a copy closes.
    own: Vec<RawFd>,
    signals: Signals,
    /// Who is told how these children have ended.
    children: HashMap<Pid, Sender<i32>>,
}

impl Server {
    fn run(mut self) {
        loop {
            // It fails for lack of memory alone, and then the next turn tries again.
            if self.signals.wait(self.owner.as_fd()).unwrap_or(false) {
                match self.owner.try_recv() {
                    Ok(Some(Order::Fork { control, status })) => self.fork(control, status),
                    Ok(None | Some(Order::Load(_))) => {}
                    Err(RecvError::Disconnected) => break,
                    // For lack of descriptors, for example. The caller learns that its process is
                    // missing, because what came with the request was closed.
                    Err(_) => {}
                }
            }
            while !self.children.is_empty() && self.reap(WaitOptions::NOHANG) {}
        }
        while self.reap(WaitOptions::empty()) {}
    }

    /// Reaps a child, and returns false if there is none.
    fn reap(&mut self, options: WaitOptions) -> bool {
        let Ok(Some((child, status))) = retry_on_intr(|| wait(options)) else { return false };
        if let Some(caller) = self.children.remove(&child) {
            // It fails if the caller does not want to know any more.
            let _ = caller.try_send(status.as_raw());
        }
        true
    }

    fn fork(&mut self, control: SharedFd, status: Option<Sender<i32>>) {
        match forking::fork() {
            Ok(Some(child)) => drop(status.map(|caller| self.children.insert(child, caller))),
            Ok(None) => {
                drop((status, mem::take(&mut self.children)));
                self.become_child(control)
            }
            Err(source) => {
                let report = not_forked(SpawnError::Io { action: "fork", source });
                // It fails if the caller has died.
                if let Ok(control) = control.into_owned() {
                    let _ = Sender::from_fd(control).send(report);
                }
            }
        }
    }

    /// Runs in the copy.
    fn become_child(&mut self, control: SharedFd) -> ! {
        forking::close(&self.own);
        self.signals.give_back();
        let Ok(control) = control.into_owned() else { runtime::exit_at_once(1) };
        let control = Connection::<Report, Birth>::from_fd(control);
        let (settings, start) = match control.try_recv() {
            Ok(Some(Birth { settings, start })) => (settings, start),
            _ => runtime::exit_at_once(1),
        };
        let report = match settings.apply() {
            Ok(pidfd) => Report::Forked { pid: getpid().as_raw_nonzero().get(), pidfd },
            Err(error) => not_forked(error),
        };
        let exists = matches!(report, Report::Forked { .. });
        // It fails if the caller has died.
        if control.send(report).is_ok() && exists {
            boot::run_forked(control.split().0, start, mem::take(&mut self.hooks));
        }
        runtime::exit_at_once(1)
    }
}

impl Settings {
    /// Applies the settings to this process, and opens its pidfd.
    fn apply(self) -> Result<SharedFd, SpawnError> {
        // The leader of a session leads a group as well, and cannot be put into one.
        if self.new_session {
            setsid().map_err(failed("setsid"))?;
        } else if self.new_group {
            setpgid(None, None).map_err(failed("setpgid"))?;
        }
        fchdir(&self.directory).map_err(failed("fchdir"))?;
        for (number, stream) in (0..).zip(&self.streams) {
            forking::set_standard_stream(number, stream.as_ref().map(AsFd::as_fd)).map_err(SpawnError::io("dup2"))?;
        }
        if self.streams.iter().any(Option::is_none) {
            runtime::open_standard_streams().map_err(SpawnError::io("opening a standard stream"))?;
        }
        forking::set_environment(self.environment);
        runtime::set_title(&self.title);
        let pidfd = process::open(getpid()).map_err(SpawnError::io("pidfd_open"))?;
        self.limits.apply(getpid())?;
        Ok(pidfd.into())
    }
}

fn failed(action: &'static str) -> impl FnOnce(Errno) -> SpawnError {
    move |errno| SpawnError::Io { action, source: errno.into() }
}

/// Takes an error apart, to be sent.
fn not_forked(error: SpawnError) -> Report {
    let (setting, source) = match error {
        SpawnError::Setting { setting, source } => (Some(setting), source),
        SpawnError::Io { source, .. } => (None, source),
        other => (None, io::Error::other(other)),
    };
    Report::NotForked { setting, error: source.raw_os_error(), text: source.to_string() }
}

/// Puts the error together again.
pub(super) fn why_not_forked(setting: Option<String>, error: Option<i32>, text: String) -> SpawnError {
    let source = match error {
        Some(error) => io::Error::from_raw_os_error(error),
        None => io::Error::new(io::ErrorKind::InvalidInput, text),
    };
    match setting {
        Some(setting) => SpawnError::Setting { setting, source },
        None => SpawnError::Io { action: "making a copy of the fork server", source },
    }
}
