//! Managers for programs on other machines, and for those in other languages.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mp_core::raw::Deadline;
use mp_core::{Receiver, Sender, pipe, wait};
use mp_listener::{Address, AuthKey, ByteConnection, Client, ConnectError, Incoming, Listener};

use crate::error::CallError;
use crate::handle::sealed::Hosted;
use crate::handle::{Proxy, ask, find};
use crate::link::Link;
use crate::relay;
use crate::wire::{Operation, ServersEnd};

/// What both sides have to have in common. The second number grows with every change of `wire`.
const BUILD: &str = concat!("mp-manager ", env!("CARGO_PKG_VERSION"), ", protocol 4");

/// How long a side that has connected may take to say what it is.
const HELLO: Duration = Duration::from_secs(10);

/// How many programs may be connected at an address.
const MOST: usize = 1024;

/// A manager on another machine, or of another program.
///
/// [`Manager::listen`](crate::Manager::listen) has the other side. Objects are found by the name
/// under which they were published, or made there: `Map::new(&remote)`. Their proxies are as those
/// of a manager of this program: they can be sent to the processes that descend from this one, and
/// keep their objects alive. All calls go through this process, so they fail once it has ended.
///
/// Both programs have to be built with the same version of this crate, which is compared. The types
/// of an object's proxy are compared by [`get`](Self::get): those of its keys and values by their
/// names, and the methods of a type with the attribute [`shared`](crate::shared) by their
/// signatures. The functions of `modify` are those that the server has under their names.
///
/// **Nothing is encrypted.** The key proves to each side that the other has it, but anyone on
/// the way can read and change the traffic after that. Use ssh or WireGuard between machines.
///
/// A value that holds descriptors or proxies cannot be sent to another machine:
/// [`CallError::Encode`].
///
/// # Process death
///
/// If a process dies, the server learns it as if it were on the same machine: its locks and permits
/// are free. If the machine or the network goes silent, each side takes the other for dead after
/// three heartbeats ([`ManagerBuilder::heartbeat`](crate::ManagerBuilder::heartbeat)). Calls fail
/// with [`CallError::Disconnected`] then. The next call connects again; but an object that had no
/// other proxy and no name is gone.
///
/// # Examples
///
/// ```
/// use mp_listener::{Address, AuthKey};
/// use mp_manager::{Manager, Map, Remote};
///
/// let manager = Manager::spawn()?;
/// let totals = Map::<String, u64>::new(&manager)?;
/// manager.publish("totals", &totals)?;
/// let key = AuthKey::random()?;
/// let address = manager.listen(Address::Abstract(Vec::new()), &key)?; // the kernel chooses a name
///
/// // In another program:
/// let remote = Remote::connect(&address, &key)?;
/// remote.get::<Map<String, u64>>("totals")?.insert("answer".to_owned(), 42)?;
/// # assert_eq!(totals.get("answer")?, Some(42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Remote {
    link: Arc<Link>,
}

impl Remote {
    /// Connects to a manager that listens at `address` and has the same key.
    ///
    /// # Errors
    ///
    /// [`RemoteError`].
    pub fn connect(address: impl Into<Address>, key: impl Into<AuthKey>) -> Result<Self, RemoteError> {
        let (address, key) = (address.into(), key.into());
        let (way_in, door) = pipe().map_err(RemoteError::Io)?;
        let first = connect(&address, &key)?;
        let serve = move || serve_door(&door, &address, &key, first);
        relay::thread().spawn(serve).map_err(RemoteError::Io)?;
        let link = Link::through(way_in).map_err(RemoteError::Io)?;
        ask::<()>(&link, Operation::Ping).map_err(RemoteError::Call)?;
        Ok(Self { link })
    }

    /// Returns a proxy of the object that was published under a name.
    ///
    /// # Errors
    ///
    /// As [`Manager::get`](crate::Manager::get).
    pub fn get<P: Proxy>(&self, name: &str) -> Result<P, CallError> {
        find(&self.link, name)
    }
}

impl Hosted for Remote {
    fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

/// Why a manager of another program cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No program listens there, or it has another key.
    #[error("the manager could not be reached: {0}")]
    Connect(ConnectError),
    /// The other program is built with another version of this crate, or is no manager.
    #[error("the other side is `{theirs}`, and this one `{ours}`: build both with the same version")]
    Build {
        /// What this program is built with.
        ours: String,
        /// What the other one says.
        theirs: String,
    },
    /// The manager closed the connection before it answered.
    #[error("the manager did not answer: {0}")]
    Call(CallError),
    /// The connection was lost before the other side said what it is, or a descriptor or a thread
    /// was not available here.
    #[error("the connection could not be set up: {0}")]
    Io(io::Error),
}

/// Says what this side is, and returns what the other one says.
fn exchange_builds(stream: &mut ByteConnection) -> io::Result<Vec<u8>> {
    stream.send_bytes_timeout(BUILD.as_bytes(), HELLO).map_err(io::Error::other)?;
    Ok(stream.recv_bytes_timeout(HELLO).map_err(io::Error::other)?.unwrap_or_default())
}

/// Connects, and says what this side is. The other side says what it is, and how often it gives a
/// sign of life.
fn connect(address: &Address, key: &AuthKey) -> Result<(ByteConnection, Duration), RemoteError> {
    let mut stream = Client::connect_with_key(address, key).map_err(RemoteError::Connect)?;
    let answer = exchange_builds(&mut stream).map_err(RemoteError::Io)?;
    let answer = String::from_utf8_lossy(&answer);
    let beat = answer.strip_prefix(BUILD).and_then(|rest| rest.strip_prefix('\n')?.parse().ok());
    match beat {
        Some(beat) => Ok((stream, Duration::from_millis(beat))),
        None => {
            let theirs: String = answer.lines().next().unwrap_or_default().chars().take(100).collect();
            Err(RemoteError::Build { ours: BUILD.to_owned(), theirs })
        }
    }
}

/// Gives each process of this machine that comes through the door a connection of its own. Ends
/// when no process has the door.
fn serve_door(door: &Receiver<ServersEnd>, address: &Address, key: &AuthKey, first: (ByteConnection, Duration)) {
    let mut first = Some(first);
    loop {
        let process = match door.recv() {
            Ok(process) => process,
            Err(mp_core::RecvError::Disconnected | mp_core::RecvError::Io(_)) => return,
            // Nothing of this library's.
            Err(_) => continue,
        };
        // If it fails, the process sees that its connection ends.
        if let Some((stream, beat)) = first.take().or_else(|| connect(address, key).ok()) {
            let relay = move || drop(relay::beside_process(stream, process, beat));
            let _ = relay::thread().spawn(relay);
        }
    }
}

/// Listens for programs, until it is dropped.
pub(crate) struct Listening {
    /// Closing it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop = None;
        // It removes the file of the socket.
        self.thread.take().map(JoinHandle::join);
    }
}

/// Refuses an address that programs on other machines can reach.
pub(crate) fn check_local(address: &Address) -> io::Result<()> {
    let local = match address {
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Host(name, _) => name == "localhost",
        _ => true,
    };
    if local {
        return Ok(());
    }
    let why = "other machines can reach this address, and nothing is encrypted: use `listen_publicly` if you want that";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Listens at an address. Returns it as it is bound.
pub(crate) fn listen(
    link: &Arc<Link>,
    address: Address,
    key: AuthKey,
    beat: Duration,
) -> io::Result<(Address, Listening)> {
    let listener = Listener::bind_with_key(address, key)?;
    let address = listener.address().clone();
    let (stop, stopped) = pipe::<()>()?;
    let link = Arc::clone(link);
    let thread = relay::thread().spawn(move || accept_all(&listener, &stopped, &link, beat))?;
    Ok((address, Listening { stop: Some(stop), thread: Some(thread) }))
}

fn accept_all(listener: &Listener, stopped: &Receiver<()>, link: &Arc<Link>, beat: Duration) {
    // Each program's thread has a clone.
    let connected = Arc::new(());
    loop {
        match wait(&[listener, stopped], None) {
            Ok(ready) if ready.contains(&1) => return,
            // For lack of memory.
            Err(_) => thread::yield_now(),
            Ok(_) => {}
        }
        let incoming = match listener.try_accept() {
            Ok(Some(incoming)) => incoming,
            Ok(None) => continue,
            Err(_) => {
                // No descriptor is free, and one may become so.
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        if Arc::strong_count(&connected) > MOST {
            continue;
        }
        let (link, connected) = (Arc::clone(link), Arc::clone(&connected));
        // If no thread can be started, the program sees that its connection ends.
        let _ = relay::thread().spawn(move || {
            let _ = serve(incoming, &link, beat);
            drop(connected);
        });
    }
}

/// Serves one program.
fn serve(incoming: Incoming, link: &Arc<Link>, beat: Duration) -> io::Result<()> {
    let mut stream = incoming.authenticate().map_err(io::Error::other)?;
    let hello = stream.recv_bytes_timeout(HELLO).map_err(io::Error::other)?.unwrap_or_default();
    #[cfg(feature = "json")]
    if hello.starts_with(b"{") {
        return crate::json::serve(stream, link, hello);
    }
    stream.send_bytes(format!("{BUILD}\n{}", beat.as_millis()).as_bytes()).map_err(io::Error::other)?;
    if hello != BUILD.as_bytes() {
        return Ok(());
    }
    let server = link.connect(Deadline::NEVER).map_err(io::Error::other)?;
    relay::beside_server(stream, &server, beat)
}
