//! What a fork server does in its process.
//!
//! 1. It makes the calls that it preloads, and then checks that it can be copied: that it has one
//!    thread, and no open file that copies would share by accident.
//! 2. For each [`Request`] it forks. The copy applies the settings and sends [`Report::Forked`] to
//!    the caller, with a pidfd of itself, or [`Report::NotForked`]. From there on it is a child
//!    like any other. The caller does not need the server for anything but the status.
//! 3. When a child ends, the server reaps it, and writes the status into the pipe that the caller
//!    sent for it. The kernel tells only a parent how a process ended, before Linux 6.15.
//! 4. When no [`ForkServer`](super::ForkServer) is left that could send requests, the server goes
//!    on until its children have ended.
//!
//! The server does not wait for a copy, and nothing that one caller does holds up another.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;

use mp_macros::process_fn;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, fchdir, getpid, pidfd_open, setpgid, setsid};
use serde::{Deserialize, Serialize};

use super::SpawnError;
use super::limits::Limits;
use crate::boot::{self, Report, Start};
use crate::call::EncodedCall;
use crate::connection::{Connection, RecvError};
use crate::descriptor::{self, Fd};
use crate::outcome::Outcome;
use crate::sys::forking::{self, Signals};
use crate::sys::poll::Deadline;
use crate::sys::runtime;
pub(super) use entry::serve as server;

/// From the owner of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first one: to make these calls.
    Load(Load),
    /// To make a process.
    Fork(Request),
}

/// What a server calls.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) preload: Vec<EncodedCall>,
    /// The calls that each copy makes before its own.
    pub(super) hooks: Vec<EncodedCall>,
}

/// Asks for a process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The end of the control socket of the new process.
    pub(super) control: Connection<Report, Start>,
    /// Where the server writes the status of the process.
    #[serde(with = "descriptor::fd")]
    pub(super) status: OwnedFd,
    pub(super) settings: Settings,
}

/// What the new process applies before its start message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    #[serde(with = "descriptor::fd")]
    pub(super) directory: OwnedFd,
    pub(super) streams: [Option<Fd<OwnedFd>>; 3],
    pub(super) environment: Vec<CString>,
    pub(super) limits: Limits,
    pub(super) new_session: bool,
    pub(super) new_group: bool,
}

/// Whether a server can serve.
#[derive(Serialize, Deserialize)]
pub(super) enum Ready {
    Yes,
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
    let serves = matches!(ready, Ready::Yes);
    let signals = Signals::take();
    if owner.send(ready).is_ok() && serves {
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
    Ok(if shared.is_empty() { Ready::Yes } else { Ready::Descriptors(shared) })
}

struct Server {
    owner: Connection<Ready, Order>,
    /// The calls that each copy makes first.
    hooks: Vec<EncodedCall>,
    /// The descriptors that a copy closes.
    own: Vec<RawFd>,
    signals: Signals,
    /// The children that have not ended, with the pipe for the status.
    children: HashMap<Pid, OwnedFd>,
}

impl Server {
    fn run(mut self) {
        let mut has_owner = true;
        while has_owner || !self.children.is_empty() {
            // It fails for lack of memory alone, and then the next turn tries again.
            if self.signals.wait(has_owner.then(|| self.owner.as_fd())).unwrap_or(false) {
                match self.owner.try_recv() {
                    Ok(Some(Order::Fork(request))) => self.fork(request),
                    Ok(None | Some(Order::Load(_))) => {}
                    Err(RecvError::Disconnected) => has_owner = false,
                    // For lack of descriptors, for example. The caller learns that its process is
                    // missing, because what came with the request was closed.
                    Err(_) => {}
                }
            }
            while let Some((child, status)) = forking::reap_any() {
                if let Some(report) = self.children.remove(&child) {
                    forking::report_status(report, status);
                }
            }
        }
    }

    fn fork(&mut self, request: Request) {
        match forking::fork() {
            Ok(Some(child)) => drop(self.children.insert(child, request.status)),
            Ok(None) => self.become_child(request),
            Err(error) => drop(request.control.send(not_forked(SpawnError::Io { action: "fork", source: error }))),
        }
    }

    /// Runs in the copy.
    fn become_child(&mut self, request: Request) -> ! {
        let Request { control, status, settings } = request;
        drop((status, mem::take(&mut self.children)));
        forking::close(&self.own);
        self.signals.give_back();
        let report = match settings.apply() {
            Ok(pidfd) => Report::Forked { pid: getpid().as_raw_nonzero().get(), pidfd },
            Err(error) => not_forked(error),
        };
        let exists = matches!(report, Report::Forked { .. });
        if control.send(report).is_err() || !exists {
            runtime::exit_at_once(1);
        }
        boot::run_forked(control, mem::take(&mut self.hooks))
    }
}

impl Settings {
    /// Applies the settings to this process, and opens its pidfd.
    fn apply(self) -> Result<OwnedFd, SpawnError> {
        // The leader of a session leads a group as well, and cannot be put into one.
        if self.new_session {
            setsid().map_err(failed("setsid"))?;
        } else if self.new_group {
            setpgid(None, None).map_err(failed("setpgid"))?;
        }
        fchdir(&self.directory).map_err(failed("fchdir"))?;
        for (number, stream) in (0..).zip(&self.streams) {
            let stream = stream.as_ref().map(|stream| stream.0.as_fd());
            forking::set_standard_stream(number, stream).map_err(SpawnError::io("dup2"))?;
        }
        runtime::open_standard_streams().map_err(SpawnError::io("opening a standard stream"))?;
        forking::set_environment(self.environment);
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("pidfd_open"))?;
        self.limits.apply(getpid())?;
        Ok(pidfd)
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
