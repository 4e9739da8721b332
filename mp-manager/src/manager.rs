//! `Manager`: a server and its life.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mp_core::raw::{Deadline, EncodedCall, Outcome, ignore_interrupts, readable};
use mp_core::{Builder, Call, ExitStatus, Process, ProcessFn, Receiver, Sender, pipe, process_fn};
use mp_listener::{Address, AuthKey};

use crate::error::{CallError, ManagerError};
use crate::handle::sealed::Hosted;
use crate::handle::{Proxy, ask, find};
use crate::link::Link;
use crate::mutex::lock;
use crate::remote::{Listening, check_local, listen};
use crate::server::{Limits, Server};
use crate::wire::{ObjectInfo, Operation, ServersEnd};

/// A server that holds objects, and the end of its life.
///
/// [`spawn`](Self::spawn) starts a process for it, [`here`](Self::here) threads of this process. It
/// serves every process that has a proxy of one of its objects.
///
/// Dropping the manager ends the server at once, as [`shutdown`](Self::shutdown) without a grace
/// period does. Proxies that other processes still have fail from then on.
///
/// # Process death
///
/// If the process that made the manager dies, the kernel kills the server. If the server dies,
/// every call and every waiting call fails at once with [`CallError::Disconnected`], and
/// [`exit_status`](Self::exit_status) says how it ended. It is not started again, because its
/// objects are lost.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_manager::{List, Manager, Map};
///
/// #[process_fn]
/// fn square(results: Map<u64, u64>, done: List<u64>, number: u64) {
///     results.insert(number, number * number).unwrap();
///     done.push(number).unwrap();
/// }
///
/// let manager = Manager::spawn()?;
/// let (results, done) = (Map::new(&manager)?, List::new(&manager)?);
/// let children = (0..3).map(|number| square::spawn(results.clone(), done.clone(), number));
/// for child in children.collect::<Vec<_>>() {
///     child?.join()?;
/// }
/// assert_eq!(results.get(&2)?, Some(4));
/// assert_eq!(done.len()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Manager {
    link: Arc<Link>,
    server: Running,
    /// Closing it ends the server.
    stop: Mutex<Option<Sender<()>>>,
    listening: Mutex<Vec<Listening>>,
    heartbeat: Duration,
}

enum Running {
    Process(Box<Process<()>>),
    Here(Arc<Server>),
}

/// The process of a server.
#[process_fn(name = "mp_manager::serve")]
fn serve(
    door: Receiver<ServersEnd>,
    way_in: Sender<ServersEnd>,
    stop: Receiver<()>,
    limits: Limits,
    initializer: Option<EncodedCall>,
) {
    // The owner of the manager decides what Ctrl-C does.
    ignore_interrupts();
    if let Some(call) = initializer {
        match call.run() {
            Outcome::Returned(_) => {}
            other => panic!("the initializer of the server failed: {}", CallError::from_outcome(other)),
        }
    }
    let server = Server::start(door, way_in, stop, limits).expect("a thread can be started at the start");
    server.wait();
}

impl Manager {
    fn new(link: Arc<Link>, server: Running, stop: Sender<()>, heartbeat: Duration) -> Self {
        Self { link, server, stop: Mutex::new(Some(stop)), listening: Mutex::default(), heartbeat }
    }

    /// Starts a server in a process of its own.
    ///
    /// # Errors
    ///
    /// [`ManagerError`]. Then there is no server.
    pub fn spawn() -> Result<Self, ManagerError> {
        Self::builder().spawn()
    }

    /// Starts a server on threads of this process. Functions of [`modify`](crate::Map::modify) run
    /// here then, and what they do to the process they do to this one.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn here() -> Result<Self, ManagerError> {
        Self::builder().here()
    }

    /// Sets what a server may have, before it is started.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder {
            process: Builder::new().name("manager"),
            limits: Limits::default(),
            initializer: None,
            heartbeat: Duration::from_secs(5),
        }
    }

    /// Gives an object a name, by which [`get`](Self::get) finds it. The name keeps the object
    /// alive. If the name was given to another object, it is taken from that.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchObject`] if the proxy is of another server, and as any call.
    pub fn publish<P: Proxy>(&self, name: &str, proxy: &P) -> Result<(), CallError> {
        if !proxy.handle().is_through(&self.link) {
            return Err(CallError::NoSuchObject);
        }
        let object = proxy.handle().id();
        ask(&self.link, Operation::Publish { name: name.to_owned(), object })
    }

    /// Takes a name back; false if no object had it.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn unpublish(&self, name: &str) -> Result<bool, CallError> {
        ask(&self.link, Operation::Unpublish(name.to_owned()))
    }

    /// Returns a proxy of the object that was given a name.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchObject`] if no object has the name, [`CallError::WrongType`] if its
    /// proxies are of another type, and as any call.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_manager::{CallError, Cell, Manager};
    ///
    /// let manager = Manager::here()?;
    /// manager.publish("limit", &Cell::new(&manager, 7_u32)?)?;
    /// assert_eq!(manager.get::<Cell<u32>>("limit")?.get()?, 7);
    /// assert!(matches!(manager.get::<Cell<u64>>("limit"), Err(CallError::WrongType { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get<P: Proxy>(&self, name: &str) -> Result<P, CallError> {
        find(&self.link, name)
    }

    /// Listens at `address` for programs that have `key`: in Rust, which use
    /// [`Remote`](crate::Remote), and in Python, which use the objects of types with
    /// `#[shared(json)]`. Returns the address, with the port or the name that the kernel chose.
    ///
    /// Only programs on this machine can reach the address: a unix socket, or a port of the
    /// loopback interface. To use it from another machine, forward the port with ssh, or see
    /// [`listen_publicly`](Self::listen_publicly). Threads of this process pass on what the
    /// programs say, until the manager is dropped or [shut down](Self::shutdown).
    ///
    /// Whoever has the key can call the functions and methods that are registered in this program,
    /// and no others. Nothing that arrives is code.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if other machines can reach the address, and as
    /// [`Listener::bind_with_key`](mp_listener::Listener::bind_with_key).
    pub fn listen(&self, address: impl Into<Address>, key: impl Into<AuthKey>) -> io::Result<Address> {
        let address = address.into();
        check_local(&address)?;
        self.listen_publicly(address, key)
    }

    /// Listens at an address that other machines may reach. **Nothing is encrypted**: anyone on the
    /// way can read and change the traffic, without the key. Use it inside a tunnel such as
    /// WireGuard.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen), for any address.
    pub fn listen_publicly(&self, address: impl Into<Address>, key: impl Into<AuthKey>) -> io::Result<Address> {
        let (address, listening) = listen(&self.link, address.into(), key.into(), self.heartbeat)?;
        lock(&self.listening).push(listening);
        Ok(address)
    }

    /// Describes the objects of the server, for debugging.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>, CallError> {
        ask(&self.link, Operation::Objects)
    }

    /// Returns the process ID of the server, which is this process's own for
    /// [`here`](Self::here).
    pub fn pid(&self) -> u32 {
        match &self.server {
            Running::Process(process) => process.pid(),
            Running::Here(_) => std::process::id(),
        }
    }

    /// Returns how the process of the server ended, or `None` while it runs and for
    /// [`here`](Self::here).
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.server {
            Running::Process(process) => process.exit_status(),
            Running::Here(_) => None,
        }
    }

    /// Ends the server: all connections are closed and all objects dropped. Waits up to `grace`
    /// for functions that run, and then kills the process. Threads of this process
    /// ([`here`](Self::here)) cannot be killed: a function that runs goes on, and its result is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot wait for the process, or this process may no longer
    /// kill it.
    pub fn shutdown(&self, grace: Duration) -> io::Result<()> {
        let stop = lock(&self.stop).take();
        drop(stop);
        lock(&self.listening).clear();
        match &self.server {
            Running::Process(process) => {
                if !readable(std::os::fd::AsFd::as_fd(process), Deadline::after(grace))? {
                    process.kill()?;
                    readable(std::os::fd::AsFd::as_fd(process), Deadline::NEVER)?;
                }
                // Reaps it.
                process.exit_status();
            }
            Running::Here(server) => server.wait(),
        }
        Ok(())
    }
}

impl Hosted for Manager {
    fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // A copy of this process, made by fork, does not end the server of the original.
        if self.link.is_ours() {
            let _ = self.shutdown(Duration::ZERO);
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Sets what a server may have, and starts it. [`Manager::builder`] returns it.
///
/// # Examples
///
/// ```
/// use mp_manager::Manager;
///
/// let manager = Manager::builder().name("results").threads(4).spawn()?;
/// assert!(manager.objects()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it starts a server"]
pub struct ManagerBuilder {
    process: Builder,
    limits: Limits,
    initializer: Option<Result<EncodedCall, mp_core::EncodeError>>,
    heartbeat: Duration,
}

impl ManagerBuilder {
    /// Sets the name of the process, which `ps` shows. The default is `manager`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.process = self.process.name(name);
        self
    }

    /// Sets how many functions the server runs at once, each on a thread that exists only while it
    /// is needed. The default is 64. More than that wait for one to end.
    pub fn threads(mut self, threads: usize) -> Self {
        self.limits.threads = threads.max(1);
        self
    }

    /// Sets how many calls of one process may be unanswered, and at least one. The default is 1024.
    /// With so many, the server does not read the next ones. They stay in the socket, and once that
    /// is full, callers wait to send, for as long as the limit of their proxy allows.
    ///
    /// Calls that wait for an object, as in [`Queue::get`](crate::Queue::get), do not count. A
    /// process can have 65,536 of those. The next one fails with [`CallError::Busy`].
    pub fn calls_in_flight(mut self, calls: usize) -> Self {
        self.limits.calls = calls.max(1);
        self
    }

    /// Sets how often the manager and a program that has connected to it
    /// ([`listen`](Manager::listen)) give each other a sign of life. After three that do not come,
    /// the other one is taken for dead. The default is 5 seconds, the least a millisecond.
    pub fn heartbeat(mut self, pause: Duration) -> Self {
        self.heartbeat = pause.max(Duration::from_millis(1));
        self
    }

    /// Sets a call that the server's process runs before it serves. [`here`](Self::here) does not
    /// run it.
    ///
    /// # Errors
    ///
    /// If it panics, [`spawn`](Self::spawn) fails with [`ManagerError::Start`].
    pub fn initializer<F: ProcessFn<Output = ()>, A>(mut self, call: Call<F, A>) -> Self {
        self.initializer = Some(call.encode());
        self
    }

    /// Changes the other settings of the server's process: its environment, directory, standard
    /// streams and limits.
    pub fn process(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.process = change(self.process);
        self
    }

    /// Starts the server in a process of its own, and waits until it serves.
    ///
    /// The process ignores SIGINT, so that Ctrl-C at a terminal ends it no earlier than the program
    /// that made it.
    ///
    /// # Errors
    ///
    /// [`ManagerError`]. Then there is no server.
    pub fn spawn(self) -> Result<Manager, ManagerError> {
        let (way_in, door) = pipe()?;
        let (stop, stopped) = pipe()?;
        let initializer = self.initializer.transpose().map_err(ManagerError::Encode)?;
        let call = serve::call(door, way_in.try_clone()?, stopped, self.limits, initializer);
        let process = self.process.spawn(call)?;
        let link = Link::through(way_in)?;
        match ask(&link, Operation::Ping) {
            Ok(()) => {}
            Err(CallError::Disconnected { .. }) => {
                return Err(match process.join() {
                    Err(error) => ManagerError::Start(error),
                    Ok(()) => io::Error::other("the server ended at once").into(),
                });
            }
            Err(error) => return Err(io::Error::other(error).into()),
        }
        Ok(Manager::new(link, Running::Process(Box::new(process)), stop, self.heartbeat))
    }

    /// Starts the server on threads of this process.
    ///
    /// # Errors
    ///
    /// [`ManagerError`]. Then there is no server.
    pub fn here(self) -> Result<Manager, ManagerError> {
        let (way_in, door) = pipe()?;
        let (stop, stopped) = pipe()?;
        let server = Server::start(door, way_in.try_clone()?, stopped, self.limits)?;
        let link = Link::through(way_in)?;
        Ok(Manager::new(link, Running::Here(server), stop, self.heartbeat))
    }
}
