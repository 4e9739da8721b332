//! A fork server as its owner sees it.

use std::error::Error;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use super::child::Made;
use super::error::{ForkServerError, SpawnError};
use super::handle::Process;
use super::record::Reaper;
use super::server::{Birth, Order, Ready, Settings, why_not_forked};
use crate::boot::{Report, Start};
use crate::connection::{Connection, Receiver, RecvError, SendErrorReason, pipe};
use crate::exit_status::ExitStatus;
use crate::sys::fork::forks;
use crate::sys::poll::{self, Deadline};
use crate::sys::{fd, socket};

/// A process that has loaded something once, and makes copies of itself in which functions run.
///
/// A model, an interpreter or a table that takes long to load, or much memory, is loaded in the
/// server by functions that [`builder`](Self::builder) names. A process from the server has it from
/// its start, takes a fraction of the time to start, and shares the memory with the others until it
/// writes to it. Each is a [`Process`] like any other. What the [`Builder`](super::Builder) sets
/// holds for it, and it dies with the process that has started it.
///
/// The server is a process of this program of its own, with one thread, so the traps of `fork` do
/// not concern the program: it may have as many threads as it likes.
///
/// Clones refer to the same server, and several threads can use one at once. The server ends when
/// they were all dropped and its processes have ended, with those that the preload has started. It
/// is not a value that can be sent: another process can have a server of its own.
///
/// # What a process has from where
///
/// | from the process that starts it, at that time | from the server |
/// |---|---|
/// | arguments of the function, name, environment, working directory, standard streams | memory: statics and what they own, thread-locals, what [`on_start`](macro@crate::on_start) functions have set up, handlers of signals, the panic hook |
/// | what the `Builder` sets | what the builder does not set: resource limits, user, umask, niceness, processors, ignored signals, session and group, root directory and namespaces, as they were when the server was built |
/// | | files that the preload has opened to read, with their positions; the layout of the address space |
///
/// The kernel copies the tables of the server's private memory for each process: a MiB of small
/// pages adds about a tenth to the time that a process takes. A `FrozenBuffer` of mp-shm adds
/// nothing, however large it is.
///
/// All processes of a server have one layout of the address space, and the state of every generator
/// of random numbers that the preload has used, std's for hash tables included. What has to differ,
/// such as a seed, is set by [`after_fork`](super::ForkServerBuilder::after_fork).
///
/// A handle that belongs to the process that made it, such as a [`Process`] or a pool, is inert in
/// a copy. So let the preload make data, and let it take handles from nowhere.
///
/// The server's own standard input is `/dev/null`, so that it reads nothing ahead that its
/// processes would then have. Descriptors that functions of `on_start` have opened are not looked
/// at.
///
/// # Process death
///
/// The kernel kills the server when its owner dies. If the server dies, its processes run on, and
/// their values arrive. How one of them ended is then known from Linux 6.15 on, unless a debugger
/// holds it for a second after its end, and is [`ExitStatus::Unknown`] otherwise. Starting a
/// process fails with [`SpawnError::ForkServerGone`], or starts the server again
/// ([`restart`](super::ForkServerBuilder::restart)). A server that is stopped, by SIGSTOP for
/// example, makes a spawn wait until it goes on or is killed. Before Linux 6.15, joining a process
/// that has returned no value waits for it as well.
///
/// The server, its owner and its processes are in one PID namespace:
/// [`build`](super::ForkServerBuilder::build) fails with
/// [`ForkServerError::Namespace`](super::ForkServerError::Namespace) otherwise.
///
/// # Examples
///
/// ```
/// use std::sync::OnceLock;
///
/// use mp_core::{ForkServer, process_fn};
///
/// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
///
/// #[process_fn]
/// fn load(text: &str) {
///     WORDS.get_or_init(|| text.split(' ').map(str::to_owned).collect());
/// }
///
/// #[process_fn]
/// fn word(index: usize) -> Option<String> {
///     WORDS.get().unwrap().get(index).cloned()
/// }
///
/// let server = ForkServer::builder().preload(load::call("to be or not")).build()?;
/// assert_eq!(server.spawn(word::call(3))?.join()?, Some("not".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ForkServer(Arc<Shared>);

struct Shared {
    name: String,
    forks: u32,
    /// Starts the server again, if that is wanted.
    restart: Option<Launch>,
    running: Mutex<Arc<Running>>,
    /// Held while the server is started again.
    restarting: Mutex<()>,
}

pub(super) type Launch = Box<dyn Fn() -> Result<Running, ForkServerError> + Send + Sync>;

/// A server that was started.
pub(super) struct Running {
    pub(super) process: Process<()>,
    pub(super) connection: Connection<Order, Ready>,
    /// Whether the kernel tells how its processes end.
    pub(super) kernel_tells: bool,
}

/// How long the kernel may take from closing the descriptors of a process to its end.
const END: Duration = Duration::from_secs(1);

impl Running {
    /// Asks for a process. Returns `None` if the server does not answer.
    fn ask(&self, birth: &Birth) -> Result<Option<Made>, SpawnError> {
        let (mine, theirs) = socket::pair().map_err(SpawnError::io("making the control socket"))?;
        // A place for the pidfd, so that the process does not begin in vain for lack of one.
        let place = fd::duplicate(mine.as_fd()).map_err(SpawnError::io("making a place for the pidfd"))?;
        let pipe = (!self.kernel_tells).then(pipe).transpose();
        let (status, report) = pipe.map_err(SpawnError::io("making a pipe for the status"))?.unzip();
        let (sender, control) = Connection::from_fd(mine).split();
        // For the copy, which finds it in its end of the socket.
        sender.send_ref(birth).map_err(|error| not_asked(error.reason))?;
        // The order is dropped once it was sent. Only the server and the process have their ends
        // then, so that the end of both is noticed.
        match self.connection.send(Order::Fork { control: theirs.into(), status }).map_err(|error| error.reason) {
            Ok(()) => {}
            Err(SendErrorReason::Disconnected) => return Ok(None),
            Err(reason) => return Err(not_asked(reason)),
        }
        let answered = self.wait_for_answer(&control).map_err(SpawnError::io("waiting for the fork server"))?;
        drop(place);
        match answered.then(|| control.recv()) {
            Some(Ok(Report::Forked { pid, pidfd })) => {
                let pid = Pid::from_raw(pid).ok_or_else(|| no_copy("it has sent no pid"))?;
                let pidfd = pidfd.into_owned().map_err(no_copy)?;
                let reaper = Reaper::Server { server: self.process.child.record(), report, by: None };
                Ok(Some(Made { control, pid, pidfd, reaper, start: None }))
            }
            Some(Ok(Report::NotForked { setting, error, text })) => Err(why_not_forked(setting, error, text)),
            Some(Ok(_)) => Err(no_copy("it has not said that it exists")),
            // The kernel closes the descriptors of a server that dies before it ends the process.
            Some(Err(RecvError::Disconnected)) if self.end().is_none() => {
                Err(no_copy("it ended before it had begun, or the server has no descriptors left"))
            }
            Some(Err(RecvError::Disconnected)) | None => Ok(None),
            Some(Err(error)) => Err(no_copy(error)),
        }
    }

    /// Waits for an answer, or the end of all who could give one. Returns false if the server has
    /// ended and there is none, although some other process still has the socket.
    fn wait_for_answer(&self, control: &Receiver<Report>) -> io::Result<bool> {
        let mut fds = [PollFd::new(control, PollFlags::IN), PollFd::new(&self.process, PollFlags::IN)];
        poll::wait(&mut fds, Deadline::NEVER)?;
        // The copy may have been made, and answer.
        Ok(!fds[0].revents().is_empty() || poll::readable(control.as_fd(), Deadline::after(END))?)
    }

    /// Returns how the server ended, if it has.
    fn end(&self) -> Option<ExitStatus> {
        // It may have closed its end of the connection just before its end.
        let ended = poll::readable(self.process.as_fd(), Deadline::after(END)).unwrap_or(false);
        ended.then(|| self.process.exit_status()).flatten()
    }
}

fn not_asked(reason: SendErrorReason) -> SpawnError {
    match reason {
        SendErrorReason::Encode(error) => SpawnError::Encode(error),
        reason => SpawnError::Io { action: "asking the fork server", source: io::Error::other(reason) },
    }
}

fn no_copy(why: impl Into<Box<dyn Error + Send + Sync>>) -> SpawnError {
    SpawnError::Io { action: "making a copy of the fork server", source: io::Error::other(why) }
}

impl ForkServer {
    pub(super) fn new(name: String, launch: Launch, restart: bool) -> Result<Self, ForkServerError> {
        let running = Mutex::new(Arc::new(launch()?));
        Ok(Self(Arc::new(Shared {
            name,
            forks: forks(),
            restart: restart.then_some(launch),
            running,
            restarting: Mutex::default(),
        })))
    }

    fn running(&self) -> MutexGuard<'_, Arc<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of the server.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the process ID of the server.
    pub fn pid(&self) -> u32 {
        self.running().process.pid()
    }

    /// Tells whether the server has not ended.
    pub fn is_alive(&self) -> bool {
        self.running().process.is_alive()
    }

    /// Asks the server for a process. If the server has ended, starts it again, if that is wanted.
    pub(super) fn fork(&self, settings: Settings, start: Start) -> Result<Made, SpawnError> {
        if self.0.forks != forks() {
            return Err(no_copy("the server belongs to the process that this one was forked from"));
        }
        let birth = Birth { settings, start };
        let running = Arc::clone(&self.running());
        if let Some(made) = running.ask(&birth)? {
            return Ok(made);
        }
        let gone = |server: &Running| SpawnError::ForkServerGone(server.end().unwrap_or(ExitStatus::Unknown));
        let Some(launch) = &self.0.restart else { return Err(gone(&running)) };
        let restarting = self.0.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = Arc::clone(&self.running());
        // Another thread may have started it meanwhile.
        if Arc::ptr_eq(&current, &running) {
            current = Arc::new(launch().map_err(|error| SpawnError::ForkServer(Box::new(error)))?);
            *self.running() = Arc::clone(&current);
        }
        drop(restarting);
        current.ask(&birth)?.ok_or_else(|| gone(&current))
    }
}

impl fmt::Debug for ForkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkServer")
            .field("name", &self.0.name)
            .field("pid", &self.pid())
            .field("is_alive", &self.is_alive())
            .finish()
    }
}
