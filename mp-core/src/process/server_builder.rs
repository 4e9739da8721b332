//! Starting a fork server.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::builder::Builder;
use super::error::{ForkServerError, JoinError, SpawnError};
use super::fork_server::{ForkServer, Running};
use super::handle::{Process, failure};
use super::server::{Load, Order, Ready, server};
use super::start_method::StartMethod;
use super::stdio::Stdio;
use crate::call::{Call, EncodedCall};
use crate::codec::EncodeError;
use crate::connection::{Connection, RecvError, SendErrorReason, duplex};
use crate::exit_status::ExitStatus;
use crate::function::ProcessFn;
use crate::sys::poll::{self, Deadline};
use crate::sys::process;

/// The settings of a [`ForkServer`], and its start.
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ForkServerBuilder {
    calls: Calls,
    restart: bool,
}

#[derive(Debug)]
struct Calls {
    name: String,
    load: Load,
    /// Why a call could not be encoded.
    error: Option<EncodeError>,
    timeout: Option<Duration>,
}

impl ForkServer {
    /// Returns a builder for a server.
    pub fn builder() -> ForkServerBuilder {
        let calls = Calls { name: "fork-server".to_owned(), load: Load::default(), error: None, timeout: None };
        ForkServerBuilder { calls, restart: false }
    }

    /// Starts a process that runs `call`, as a copy of the server.
    ///
    /// [`Builder::start_method`] with [`StartMethod::ForkServer`] does the same for a process with
    /// settings of its own, and for the workers of a pool.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], as [`Builder::spawn`]. [`SpawnError::ForkServerGone`] if the server has
    /// ended.
    pub fn spawn<F: ProcessFn, A>(&self, call: Call<F, A>) -> Result<Process<F::Output>, SpawnError> {
        Builder::new().start_method(StartMethod::ForkServer(self.clone())).spawn(call)
    }
}

impl ForkServerBuilder {
    /// Sets the name of the server's process. The default is `fork-server`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.calls.name = name.into();
        self
    }

    /// Adds a call that the server makes before it serves, in the order in which they are added.
    /// What the function returns is dropped; what it stores, in a static for example, is there in
    /// every process of the server.
    pub fn preload<F: ProcessFn, A>(mut self, call: Call<F, A>) -> Self {
        let encoded = self.calls.encode(&call);
        self.calls.load.preload.extend(encoded);
        self
    }

    /// Adds a call that each process of the server makes before its function, in the order in which
    /// they are added. If it panics, joining the process returns that panic.
    pub fn after_fork<F: ProcessFn, A>(mut self, call: Call<F, A>) -> Self {
        let encoded = self.calls.encode(&call);
        self.calls.load.hooks.extend(encoded);
        self
    }

    /// Sets whether the server is started again, and loads again, when it has ended and a process
    /// is to be started. By default that is an error.
    pub fn restart(mut self, restart: bool) -> Self {
        self.restart = restart;
        self
    }

    /// Limits how long the preload may take. By default it may take as long as it needs.
    pub fn preload_timeout(mut self, timeout: Duration) -> Self {
        self.calls.timeout = Some(timeout);
        self
    }

    /// Starts the server, and waits until it has loaded.
    ///
    /// # Errors
    ///
    /// [`ForkServerError`]. The process of the server has ended then.
    pub fn build(self) -> Result<ForkServer, ForkServerError> {
        let Self { mut calls, restart } = self;
        if let Some(error) = calls.error.take() {
            return Err(ForkServerError::Encode(error));
        }
        let Calls { name, load, timeout, .. } = calls;
        let (title, load) = (name.clone(), Order::Load(load));
        ForkServer::new(name, Box::new(move || start(&title, &load, timeout)), restart)
    }
}

impl Calls {
    fn encode<F: ProcessFn, A>(&mut self, call: &Call<F, A>) -> Option<EncodedCall> {
        call.encode().map_err(|error| self.error = Some(error)).ok()
    }
}

fn start(name: &str, load: &Order, timeout: Option<Duration>) -> Result<Running, ForkServerError> {
    if process::children_are_in_another_namespace() {
        return Err(ForkServerError::Namespace);
    }
    let io = |source| ForkServerError::Spawn(SpawnError::Io { action: "making a connection", source });
    let (mine, theirs) = duplex().map_err(io)?;
    let mut builder = Builder::new().name(name).start_method(StartMethod::Spawn).kill_on_drop(true);
    // What it would read ahead would be in each copy.
    builder = builder.stdin(Stdio::null());
    builder.is_server = true;
    let mut process = builder.spawn(server::call(theirs)).map_err(ForkServerError::Spawn)?;
    let ready = match mine.send_ref(load).map_err(|error| error.reason) {
        Ok(()) => wait(&mine, &process, timeout),
        // It has ended already.
        Err(SendErrorReason::Disconnected) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    };
    match ready.map_err(|error| ForkServerError::Preload(JoinError::Io(error)))? {
        Some(Ready::Yes { kernel_tells }) => {
            process.child.kill_on_drop = false;
            Ok(Running { process, connection: mine, kernel_tells })
        }
        Some(Ready::Namespace) => Err(ForkServerError::Namespace),
        Some(Ready::Preload(outcome)) => Err(ForkServerError::Preload(failure(&process.child, outcome))),
        Some(Ready::Threads(names)) => Err(ForkServerError::Threads(names)),
        Some(Ready::Descriptors(names)) => Err(ForkServerError::Descriptors(names)),
        None => match timeout.filter(|_| process.is_alive()) {
            Some(timeout) => Err(ForkServerError::TimedOut(timeout)),
            None => {
                let exited = |()| JoinError::Exited(ExitStatus::Code(0));
                Err(ForkServerError::Preload(process.join().map_or_else(|error| error, exited)))
            }
        },
    }
}

/// Waits until the server is ready; `None` if it has ended, or the time is over.
fn wait(
    server: &Connection<Order, Ready>,
    process: &Process<()>,
    timeout: Option<Duration>,
) -> io::Result<Option<Ready>> {
    let deadline = Deadline::from_timeout(timeout);
    poll::wait(&mut [PollFd::new(server, PollFlags::IN), PollFd::new(process, PollFlags::IN)], deadline)?;
    match server.try_recv() {
        Ok(ready) => Ok(ready),
        Err(RecvError::Disconnected) => poll::readable(process.as_fd(), deadline).map(|_| None),
        Err(error) => Err(io::Error::other(error)),
    }
}
