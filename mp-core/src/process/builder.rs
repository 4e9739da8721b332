//! Starting a process, with everything that can be set for it.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::child::{Child, Control, Dialogue};
use super::environment::{self, Environment, c_string};
use super::limits::Limits;
use super::stdio::{Stdio, Streams};
use super::{Process, SpawnError, children};
use crate::boot::{self, Start};
use crate::call::Call;
use crate::codec::message_limit;
use crate::connection::SendErrorReason;
use crate::current::Identity;
use crate::function::ProcessFn;
use crate::registry;
use crate::resource::Resource;
use crate::sys::{lifeline, socket, spawn};
use crate::trace;

/// How a new process comes into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartMethod {
    /// This same executable is started again, and nothing of this process's memory is there. The
    /// cost does not depend on how much memory this process has.
    #[default]
    Spawn,
}

/// Starts processes: the name, the environment, the directory, the standard streams and the limits
/// can be set.
///
/// What is not set is as in this process: the arguments, the working directory, the environment,
/// the standard streams, the user, the umask, the resource limits, the processors, the niceness,
/// the session, process group and terminal, and which signals are ignored. Signals that this
/// process handles have their default effect. The signal mask is not inherited: it is empty, so
/// that a process can be terminated whatever the thread blocks that starts it. SIGPIPE is ignored,
/// as in every Rust program. Descriptors are not inherited: the standard streams apart, a process
/// has those that its arguments hold.
///
/// Ctrl-C at a terminal sends SIGINT to this process and all that it started, at once, and ends all
/// that do not handle it. A process that is to end its children in its own time handles SIGINT
/// itself and joins them; they tell it that they were interrupted.
///
/// # Examples
///
/// ```
/// use mp_core::{Builder, process_fn};
///
/// #[process_fn]
/// fn describe() -> (String, Option<String>) {
///     (mp_core::current().name().to_owned(), std::env::var("LEVEL").ok())
/// }
///
/// let process = Builder::new().name("parser").env("LEVEL", "3").spawn(describe::call())?;
/// assert_eq!(process.join()?, ("parser".to_owned(), Some("3".to_owned())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<String>,
    environment: Environment,
    directory: Option<PathBuf>,
    streams: [Stdio; 3],
    limits: Limits,
    outlive_parent: bool,
    start_method: StartMethod,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Makes a builder with which nothing is set.
    pub fn new() -> Self {
        Self {
            name: None,
            environment: Environment::default(),
            directory: None,
            streams: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            limits: Limits::default(),
            outlive_parent: false,
            start_method: StartMethod::default(),
        }
    }

    /// Sets the name, which `ps` shows and [`current`](crate::current()) returns.
    ///
    /// The default is `Process-` and the path from the root process: `Process-1:2` is the second
    /// child of `Process-1`. Names need not be unique. `ps -o comm` and `top` show the first 15
    /// bytes, `ps -f` all of it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.set(name.into(), value.into());
        self
    }

    /// Sets several variables of the environment.
    pub fn envs<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        for (name, value) in variables {
            self.environment.set(name.into(), value.into());
        }
        self
    }

    /// Leaves a variable of this process's environment out.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.environment.remove(name.into());
        self
    }

    /// Starts from an empty environment; what was set before is forgotten as well.
    pub fn env_clear(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// Sets the working directory. A relative path starts from that of this process.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`], which names the directory, if it
    /// cannot be entered.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the standard input.
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[0] = stream.into();
        self
    }

    /// Sets the standard output.
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[1] = stream.into();
        self
    }

    /// Sets the standard error.
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[2] = stream.into();
        self
    }

    /// Limits what the process may use of a resource: `soft` is what holds, `hard` is how far the
    /// process may raise that itself. [`Resource::UNLIMITED`] stands for no limit.
    ///
    /// The limit is set before the function runs, and holds for what the process starts in turn.
    /// What happens when it is reached depends on the [`Resource`].
    ///
    /// A limit under which the process cannot even begin shows when it is joined, as
    /// [`JoinError::NotStarted`](super::JoinError::NotStarted), or as SIGSEGV, SIGABRT or exit code
    /// 127 in [`JoinError::Exited`](super::JoinError::Exited). It is set while the process is
    /// already being loaded, so chance has a part in it. [`Resource::AddressSpace`] counts the
    /// executable, its libraries and its stacks: a small program begins with 5 MiB, and 64 MiB and
    /// what the function needs leave room for a large one and for some threads.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if `soft` is above `hard`, or
    /// `hard` above that of this process, which only a privileged process may raise.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{Builder, ExitStatus, JoinError, Resource, process_fn};
    ///
    /// #[process_fn]
    /// fn hog() -> usize {
    ///     std::hint::black_box(vec![1u8; 4 << 30]).len()
    /// }
    ///
    /// let builder = Builder::new().rlimit(Resource::AddressSpace, 1 << 30, 1 << 30);
    /// # let builder = builder.rlimit(Resource::CoreSize, 0, 0).stderr(mp_core::Stdio::null());
    /// let Err(JoinError::Exited(status)) = builder.spawn(hog::call())?.join() else { panic!("there was memory") };
    /// assert!(matches!(status, ExitStatus::Signal { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.limits.resource(resource, soft, hard);
        self
    }

    /// Sets the processors on which the process may run, by their numbers from 0.
    ///
    /// It holds for the thread that runs the function, and for what that starts in turn, unless
    /// they change it themselves.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if none of them exists or is
    /// allowed here.
    pub fn cpu_affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.limits.processors(processors.into_iter().collect());
        self
    }

    /// Adds `increment` to the niceness, which is this process's otherwise: the higher, the less of
    /// a contended processor the process gets. The sum is kept within -20 and 19. It is the
    /// niceness of the thread that runs the function, and of what that starts in turn.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if the niceness is to be lowered
    /// and this process is not allowed to.
    pub fn nice(mut self, increment: i32) -> Self {
        self.limits.nice(increment);
        self
    }

    /// Lets the process live on when this one ends, however it ends. By default it is killed then.
    ///
    /// Such a process is the leader of a session of its own, so that neither Ctrl-C at the terminal
    /// nor the end of the terminal is sent to it. It still has this process's standard streams
    /// unless others are set, and whatever it starts dies with it. When this process is gone,
    /// nobody learns its value; it can tell by [`parent`](crate::parent()).
    pub fn outlive_parent(mut self, outlive: bool) -> Self {
        self.outlive_parent = outlive;
        self
    }

    /// Sets how the process comes into being.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = method;
        self
    }

    /// Starts a process that runs `call`.
    ///
    /// It returns as soon as the process exists; however long the arguments are, it does not wait
    /// for the process to read them. Handles in the arguments belong to the process from then on.
    /// What the call borrows is free again: the process has a copy.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; there is no process then, and nothing of it is left.
    pub fn spawn<F: ProcessFn, A>(self, call: Call<F, A>) -> Result<Process<F::Output>, SpawnError> {
        if !boot::is_decided() {
            return Err(SpawnError::NotInitialized);
        }
        children::sweep();
        registry::check()?;
        if registry::find(F::NAME).is_none() {
            return Err(SpawnError::Unregistered { name: F::NAME });
        }
        let name = self.name.clone();
        let result = match self.start_method {
            StartMethod::Spawn => self.spawn_executable(call),
        };
        match &result {
            Ok(process) => trace::spawned(process.name(), process.pid(), F::NAME),
            Err(error) => trace::not_spawned(name.as_deref(), F::NAME, error),
        }
        result
    }

    fn spawn_executable<F: ProcessFn, A>(self, call: Call<F, A>) -> Result<Process<F::Output>, SpawnError> {
        let encoded = call.encode().map_err(SpawnError::Encode)?;
        let environment = self.environment.strings()?;
        let directory = match self.directory {
            Some(directory) => Some(c_string("a working directory", directory.into_os_string().into_vec())?),
            None => None,
        };
        if let Some(name) = self.name.as_ref().filter(|name| name.contains('\0')) {
            return Err(SpawnError::InvalidInput { what: "a name", value: name.into() });
        }
        let identity = Identity::of_next_child(self.name);
        let name = identity.name.clone();
        let (arguments, program) = environment::arguments(|program| identity.title(program))?;
        let streams = Streams::open(self.streams)?;
        let (lifeline, childs_end) = lifeline::new().map_err(SpawnError::io("making the lifeline"))?;
        let (mine, theirs) = socket::pair().map_err(SpawnError::io("making the control socket"))?;
        let control = Control::from_fd(mine);

        let outlive_parent = self.outlive_parent;
        let start = Start {
            identity,
            call: encoded,
            lifeline: childs_end,
            outlive_parent,
            stack: self.limits.stack(),
            program,
            message_limit: message_limit(),
        };
        let (pid, pidfd) = spawn::spawn(&spawn::Request {
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_deref(),
            standard_streams: streams.ends(),
            control: theirs.as_fd(),
            new_session: outlive_parent,
        })
        .map_err(|source| what_failed(directory.as_deref(), source))?;
        // Before anyone else can see the child: one that was reaped may have lent its number to a
        // stranger.
        let limited = self.limits.apply(pid);
        let child = Child::new(name, pid, pidfd, lifeline);
        if let Err(error) = limited {
            child.discard();
            return Err(error);
        }
        // Not before there is a pidfd: until then an error has to mean that nothing of the function
        // has run. `theirs` is still open, so that the message to a process that has already ended
        // is unread, not undeliverable; joining tells the difference.
        if let Err(error) = control.send(start) {
            child.discard();
            return Err(match error.reason {
                SendErrorReason::Encode(error) => SpawnError::Encode(error),
                SendErrorReason::Io(source) => SpawnError::Io { action: "sending the start message", source },
                other => SpawnError::Io { action: "sending the start message", source: std::io::Error::other(other) },
            });
        }
        drop(theirs);
        Ok(Process::new(child, Dialogue::new(control), streams.pipes))
    }
}

/// posix_spawn does not say which of its steps failed. The directory is the only one that depends
/// on the caller, and looking into it fails as entering it did.
fn what_failed(directory: Option<&CStr>, source: std::io::Error) -> SpawnError {
    if let Some(directory) = directory.map(|directory| Path::new(OsStr::from_bytes(directory.to_bytes()))) {
        if directory.join(".").metadata().is_err() {
            return SpawnError::Setting { setting: format!("the working directory {directory:?}"), source };
        }
    }
    SpawnError::Io { action: "posix_spawn", source }
}
