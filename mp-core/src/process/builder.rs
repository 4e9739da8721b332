//! Starting a process, and its settings.

use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::{env, io, mem};

use super::child::{Child, ControlSocket, Made, Unsent};
use super::environment::{self, c_string};
use super::portable::Portable;
use super::record::{Reaper, Record};
use super::server::Settings;
use super::start_method::{StartMethod, default_method};
use super::stdio::{Stdio, Streams};
use super::{Process, SpawnError, children};
use crate::boot::{self, Start};
use crate::call::Call;
use crate::codec::message_limit;
use crate::connection::{Connection, SendErrorReason};
use crate::current::Identity;
use crate::function::ProcessFn;
use crate::registry;
use crate::resource::Resource;
use crate::sys::{fd, lifeline, process, socket, spawn};
use crate::trace;

/// How long the titles of the processes of a fork server can be. Longer ones are cut off.
const TITLE_ROOM: usize = 128;

/// Sets the name, the environment, the directory, the standard streams and the limits of a process,
/// and starts it.
///
/// What you do not set, the process inherits: the arguments, the working directory, the
/// environment, the standard streams, the user, the umask, the resource limits, the processors, the
/// niceness, the session, process group and terminal, and which signals are ignored. Signals that
/// this process handles have their default effect in the new one. The signal mask is not inherited.
/// It is empty, so SIGTERM ends the process even if the thread that starts it blocks that signal.
/// SIGPIPE is ignored, as in every Rust program. Apart from the standard streams, a process has
/// only the descriptors that its arguments contain.
///
/// A process from a [`ForkServer`](super::ForkServer) is a copy of the server. So it has from the
/// server what you do not set of the resource limits, user, umask, niceness, processors, session,
/// process group and terminal, ignored signals and handlers: as they were when the server was
/// built, and not as they are in this process.
///
/// Ctrl-C at a terminal sends SIGINT to this process and to its children at the same time, and ends
/// each one that does not handle the signal. To clean up after its children, a process handles
/// SIGINT and joins them: joining returns an error that names the signal.
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
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    pub(super) portable: Portable,
    pub(super) streams: [Stdio; 3],
    kill_on_drop: bool,
    outlive_parent: bool,
    pub(super) start_method: Option<StartMethod>,
    pub(super) program: Option<PathBuf>,
    /// Whether it is to become a fork server: [`active_children`](super::active_children) does not
    /// list it, and its title has room for those of its copies.
    pub(super) is_server: bool,
}

impl Builder {
    /// Makes a builder without settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes another builder with the same settings, to start several processes alike.
    ///
    /// # Errors
    ///
    /// Fails if a stream is [`Stdio::piped`], because each process has a pipe of its own, and if
    /// this process has no free descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{Builder, process_fn};
    ///
    /// #[process_fn]
    /// fn level() -> Option<String> {
    ///     std::env::var("LEVEL").ok()
    /// }
    ///
    /// let template = Builder::new().env("LEVEL", "3").nice(1);
    /// for name in ["first", "second"] {
    ///     let process = template.try_clone()?.name(name).spawn(level::call())?;
    ///     assert_eq!(process.join()?.as_deref(), Some("3"));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Self> {
        let [stdin, stdout, stderr] = &self.streams;
        Ok(Self {
            portable: self.portable.clone(),
            streams: [stdin.try_clone()?, stdout.try_clone()?, stderr.try_clone()?],
            start_method: self.start_method.clone(),
            program: self.program.clone(),
            ..*self
        })
    }

    /// Sets the name, which `ps` shows and [`current`](crate::current()) returns in the process.
    ///
    /// The default is `Process-` and the path from the root process: `Process-1:2` is the second
    /// child of `Process-1`. Names need not be unique. `ps -o comm` and `top` show the first 15
    /// bytes, `ps -f` shows the whole name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.portable.name = Some(name.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.portable.environment.set(name.into(), value.into());
        self
    }

    /// Sets several environment variables.
    pub fn envs<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        for (name, value) in variables {
            self.portable.environment.set(name.into(), value.into());
        }
        self
    }

    /// Removes a variable from the environment that the process inherits.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.portable.environment.remove(name.into());
        self
    }

    /// Clears the environment: the process inherits no variable, and earlier calls of `env` are
    /// forgotten.
    pub fn env_clear(mut self) -> Self {
        self.portable.environment.clear();
        self
    }

    /// Sets the working directory. A relative path is relative to this process's working directory.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`], which names the directory, if it
    /// cannot be entered.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.portable.directory = Some(directory.into().into_os_string());
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

    /// Limits how much of a resource the process may use. The kernel enforces `soft`; the process
    /// itself may raise it up to `hard`. [`Resource::UNLIMITED`] means no limit.
    ///
    /// The limit is set before the function runs, and the process's own children inherit it. What
    /// happens at the limit depends on the [`Resource`].
    ///
    /// If the limit is too low for the process to start, joining it returns
    /// [`JoinError::NotStarted`](super::JoinError::NotStarted), or
    /// [`JoinError::Exited`](super::JoinError::Exited) with SIGSEGV, SIGABRT or exit code 127.
    /// Which one varies, because the limit is set while the process is being loaded.
    /// [`Resource::AddressSpace`] includes the executable, its libraries and its stacks. A small
    /// program starts with 5 MiB; 64 MiB plus what the function needs is enough for a large program
    /// and some threads.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if `soft` is above `hard`, or if
    /// `hard` is above this process's own hard limit and this process is not privileged.
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
        self.portable.limits.resource(resource, soft, hard);
        self
    }

    /// Sets the processors on which the process may run, by their numbers from 0.
    ///
    /// The setting applies to the thread that runs the function. The threads and processes that it
    /// starts inherit the setting and can change it.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if none of the processors exists
    /// and is allowed for this process.
    pub fn cpu_affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.portable.limits.processors(processors.into_iter().collect());
        self
    }

    /// Adds `increment` to the niceness that the process inherits. The higher its niceness, the
    /// less time a process gets on a busy processor. The sum is clamped to the range from -20 to
    /// 19. The setting applies to the thread that runs the function; the threads and processes that
    /// it starts inherit it.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails with [`SpawnError::Setting`] if `increment` is negative and
    /// this process may not lower a niceness.
    pub fn nice(mut self, increment: i32) -> Self {
        self.portable.limits.nice(increment);
        self
    }

    /// Sets the file mode creation mask: the permissions that files which the process creates do
    /// not get, such as `0o077`.
    pub fn umask(mut self, mask: u32) -> Self {
        self.portable.own.umask = Some(mask);
        self
    }

    /// Sets the user, by number. If this process runs as root, the new one has no supplementary
    /// groups.
    ///
    /// The process becomes that user before any code of yours runs in it. To start processes in its
    /// turn it needs the permission to execute the program's file.
    ///
    /// # Errors
    ///
    /// If this process may not do that, joining the new one returns
    /// [`JoinError::NotStarted`](super::JoinError::NotStarted), and the function does not run. The
    /// same holds for [`gid`](Self::gid).
    pub fn uid(mut self, user: u32) -> Self {
        self.portable.own.user = Some(user);
        self
    }

    /// Sets the group, by number.
    pub fn gid(mut self, group: u32) -> Self {
        self.portable.own.group = Some(group);
        self
    }

    /// Sets whether the process gives up new privileges: programs that it executes are not run with
    /// their set-user-ID bits or file capabilities, and neither are those of its children. It
    /// cannot be undone.
    pub fn no_new_privs(mut self, give_up: bool) -> Self {
        self.portable.own.no_new_privileges = give_up;
        self
    }

    /// Sets whether the process leads a process group of its own, which
    /// [`kill`](super::Process::kill), [`terminate`](super::Process::terminate) and
    /// [`interrupt`](super::Process::interrupt) then signal as a whole: the process, and everything
    /// that it started and that stayed in the group, such as a `std::process::Command` or the
    /// copies that C code makes by `fork`.
    ///
    /// Once the process has ended and its status was taken, the group is signalled no more. Such a
    /// process does not receive SIGINT when the user types Ctrl-C, and cannot read from the
    /// terminal. If its parent ends, the kernel kills the process alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Command;
    /// use std::time::Duration;
    ///
    /// use mp_core::{Builder, process_fn};
    ///
    /// #[process_fn]
    /// fn convert() -> bool {
    ///     Command::new("sleep").arg("1000").status().unwrap().success()
    /// }
    ///
    /// let mut process = Builder::new().process_group(true).spawn(convert::call())?;
    /// assert!(process.join_timeout(Duration::from_millis(50))?.is_none());
    /// process.kill()?; // `sleep` as well
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn process_group(mut self, own: bool) -> Self {
        self.portable.process_group = own;
        self
    }

    /// Sets whether dropping the [`Process`], or a future that joins it, kills the process. By
    /// default it runs on.
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
        self
    }

    /// Lets the process live on when this one ends. By default the kernel kills it then.
    ///
    /// Such a process leads a session of its own, so it receives no signal when the user types
    /// Ctrl-C or the terminal closes. It still inherits the standard streams, and its own children
    /// still die with it. If its parent ends first, its value is lost; [`parent`](crate::parent())
    /// tells it that the parent has ended.
    pub fn outlive_parent(mut self, outlive: bool) -> Self {
        self.outlive_parent = outlive;
        self
    }

    /// Sets the program that the process runs, instead of this executable.
    ///
    /// It has to contain the function, under the same [`ID`](ProcessFn::ID), and use the same
    /// version of mp-core; its `main` does not run. A library that a program of another kind has
    /// loaded, such as an extension module of Python, needs this, because a child of that program
    /// does not find the function before its `main` has run. `docs/EXTENSIONS.md` in the repository
    /// says more.
    ///
    /// # Errors
    ///
    /// [`spawn`](Self::spawn) fails if the file cannot be executed. If the program does not contain
    /// the function, or does not use mp-core, joining the process returns
    /// [`JoinError::NotStarted`](super::JoinError::NotStarted).
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Sets how the process is made. By default it is what
    /// [`set_start_method`](super::set_start_method) has set.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = Some(method);
        self
    }

    /// Starts a process that runs `call`.
    ///
    /// It returns as soon as the process exists, and does not wait until the process reads the
    /// arguments, however long they are. The process then owns its copies of the values and
    /// descriptors in the arguments. What the call borrows is free again.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]. Then there is no process, and the call has released everything that it made.
    pub fn spawn<F: ProcessFn, A>(self, call: Call<F, A>) -> Result<Process<F::Output>, SpawnError> {
        if !boot::is_decided() {
            return Err(SpawnError::NotInitialized);
        }
        children::sweep();
        registry::check()?;
        if registry::find(F::ID).is_none() {
            return Err(SpawnError::Unregistered { name: F::NAME });
        }
        let name = self.portable.name.clone();
        let result = self.make(call);
        match &result {
            Ok(process) => trace::spawned(process.name(), process.pid(), F::NAME),
            Err(error) => trace::not_spawned(name.as_deref(), F::NAME, error),
        }
        result
    }

    fn make<F: ProcessFn, A>(mut self, call: Call<F, A>) -> Result<Process<F::Output>, SpawnError> {
        let encoded = call.encode().map_err(|error| SpawnError::Encode(error.about(&registry::quoted::<F>())))?;
        if let Some(name) = self.portable.name.as_ref().filter(|name| name.contains('\0')) {
            return Err(SpawnError::InvalidInput { what: "a name", value: name.into() });
        }
        let method = self.start_method.take().unwrap_or_else(|| default_method().clone());
        let identity = Identity::of_next_child(self.portable.name.take());
        let name = identity.name.clone();
        let streams = Streams::open(mem::take(&mut self.streams))?;
        let (lifeline, childs_end) = lifeline::new().map_err(SpawnError::io("making the lifeline"))?;
        let own = mem::take(&mut self.portable.own);
        let start = Start {
            identity,
            call: encoded,
            lifeline: childs_end.into(),
            outlive_parent: self.outlive_parent,
            stack: self.portable.limits.stack(),
            program: None,
            message_limit: message_limit(),
            own,
        };
        let made = match method {
            StartMethod::Spawn => self.execute(start, &streams)?,
            StartMethod::ForkServer(server) => server.fork(self.settings(&streams, &start.identity)?, start)?,
        };
        let mut record =
            Record::new((name, F::NAME), (made.pid, made.pidfd), lifeline, made.reaper, self.portable.process_group);
        record.is_server = self.is_server;
        let child = Child::new(record, self.kill_on_drop);
        // Only once there is a pidfd, because after an earlier error the function must not have
        // run.
        let sent = made.start.map_or(Ok(()), Unsent::send);
        match sent {
            // If the process has ended already, `join` finds out why.
            Ok(()) | Err(SendErrorReason::Disconnected) => {
                Ok(Process::new(child, ControlSocket::new(made.control), streams.pipes))
            }
            Err(error) => {
                child.discard();
                Err(match error {
                    SendErrorReason::Encode(error) => SpawnError::Encode(error.about(&registry::quoted::<F>())),
                    SendErrorReason::Io(source) => SpawnError::Io { action: "sending the start message", source },
                    other => SpawnError::Io { action: "sending the start message", source: io::Error::other(other) },
                })
            }
        }
    }

    fn directory(&mut self) -> Result<Option<CString>, SpawnError> {
        let directory = self.portable.directory.take().map(OsString::into_vec);
        directory.map(|directory| c_string("a working directory", directory)).transpose()
    }

    /// Starts the executable, with everything that can be set from outside.
    fn execute(&mut self, mut start: Start, streams: &Streams) -> Result<Made, SpawnError> {
        let program_file = environment::program(self.program.take())?;
        let mut environment = self.portable.environment.strings()?;
        environment::add_marker(&mut environment)?;
        let directory = self.directory()?;
        let title_room = if self.is_server { TITLE_ROOM } else { 0 };
        let arguments;
        (arguments, start.program) = environment::arguments(|program| start.identity.title(program, title_room))?;
        let (mine, theirs) = socket::pair().map_err(SpawnError::io("making the control socket"))?;
        let (pid, pidfd) = spawn::spawn(&spawn::Request {
            program: &program_file,
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_deref(),
            standard_streams: streams.ends(),
            control: theirs.as_fd(),
            new_session: self.outlive_parent,
            new_group: self.portable.process_group,
        })
        .map_err(|failure| environment::what_failed(directory.as_deref(), failure))?;
        // Before any other thread can see the child, because that thread could reap it, and its pid
        // could then belong to another process.
        if let Err(error) = self.portable.limits.apply(pid) {
            process::discard(pid);
            return Err(error);
        }
        let (control, report) = Connection::from_fd(mine).split();
        let start = Some(Unsent { start, control, theirs });
        Ok(Made { control: report, pid, pidfd, reaper: Reaper::Parent, start })
    }

    /// Returns what a copy of a fork server is to apply.
    fn settings(&mut self, streams: &Streams, identity: &Identity) -> Result<Settings, SpawnError> {
        if let Some(program) = self.program.take() {
            return Err(SpawnError::InvalidInput {
                what: "a program to a copy of a fork server",
                value: program.into(),
            });
        }
        let directory = self.directory()?;
        let mut title = identity.title(&env::args_os().next().unwrap_or_default(), 0).into_bytes();
        title.truncate(TITLE_ROOM);
        let opened = fd::open_directory(directory.as_deref().unwrap_or(c"."));
        Ok(Settings {
            directory: opened
                .map_err(|source| environment::what_failed(directory.as_deref(), ("open", source)))?
                .into(),
            streams: streams.for_copy().map_err(SpawnError::io("opening a standard stream"))?,
            environment: self.portable.environment.strings()?,
            title,
            limits: mem::take(&mut self.portable.limits),
            new_session: self.outlive_parent,
            new_group: self.portable.process_group,
        })
    }
}
