//! What a rank says about itself and its host.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::port::Hello;

/// Describes this process's host.
///
/// # Errors
///
/// The executable cannot be read.
pub(crate) fn describe() -> io::Result<Hello> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let info = rustix::system::sysinfo();
    let memory = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Hello { build: build()?, host, cores, memory })
}

/// A digest of the executable, to find out by mistake that hosts have different builds. It need not
/// withstand an attacker, who could change the executable anyway.
fn build() -> io::Result<u64> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hasher = DefaultHasher::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.write(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Notices that the launcher, or its daemon on this host, has died.
pub(crate) struct Launcher(Option<rustix::process::Pid>);

impl Launcher {
    pub(crate) fn new() -> Self {
        Self(rustix::process::getppid())
    }

    /// Whether this process has another parent now.
    pub(crate) fn is_gone(&self) -> bool {
        rustix::process::getppid() != self.0
    }
}

/// How long a thread that polls may sleep. MPI has nothing that a thread can sleep beside.
pub(crate) struct Pause {
    idle: std::time::Instant,
}

/// The shortest sleep, and the longest while there is work and while there is none.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST_BUSY: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(4);

impl Pause {
    pub(crate) fn new() -> Self {
        Self { idle: std::time::Instant::now() }
    }

    /// Something has happened.
    pub(crate) fn reset(&mut self) {
        self.idle = std::time::Instant::now();
    }

    /// A quarter of the time since something has happened, so that what comes next is not noticed
    /// much later than it comes.
    pub(crate) fn length(&self, is_busy: bool) -> Duration {
        (self.idle.elapsed() / 4).clamp(SHORTEST, if is_busy { LONGEST_BUSY } else { LONGEST })
    }
}

/// Prints a line for the user. Unlike `eprintln` it does not panic if the launcher, which reads it,
/// has died.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "mp-mpi: {what}");
}

/// Ends this process without MPI's own clean-up, which waits for others.
pub(crate) fn exit_at_once() -> ! {
    // It can kill itself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
