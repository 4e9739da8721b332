//! What a pool does and how it starts workers.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::EncodedCall;
use mp_core::{Builder, Resource, SpawnError, StartMethod, Stdio};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chunk::Terms;

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) terms: Terms,
    pub(crate) max_tasks: u32,
    pub(crate) prefetch: u32,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) recycle_above: Option<u64>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) environment: Vec<Environment>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) streams: [Stdio; 3],
    pub(crate) limits: Vec<(Resource, u64, u64)>,
    pub(crate) affinity: Affinity,
    pub(crate) nice: i32,
    pub(crate) start_method: Option<StartMethod>,
    pub(crate) configure: Option<Configure>,
    pub(crate) program: Option<PathBuf>,
    pub(crate) ignore_interrupts: bool,
    pub(crate) initializer: Option<Initializer>,
}

/// What the user sets for each worker beside the settings of the pool.
pub(crate) struct Configure(pub(crate) Box<dyn Fn(Builder) -> Builder + Send + Sync>);

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configure")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Environment {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Affinity {
    Inherited,
    All(Vec<usize>),
    OneEach,
}

/// No worker runs more tasks than this, so that their numbers never begin anew.
pub(crate) const MOST_TASKS: u32 = 1 << 31;

/// What a worker does before it takes tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) ignore_interrupts: bool,
    pub(crate) initializer: Option<Initializer>,
}

/// A call that each worker runs first.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub(crate) call: Arc<EncodedCall>,
    /// It returns a `Result`, and not nothing.
    pub(crate) can_fail: bool,
}

/// The settings that the workers of another host have as well.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Portable {
    name: String,
    environment: Vec<Environment>,
    directory: Option<PathBuf>,
    limits: Vec<(Resource, u64, u64)>,
    affinity: Affinity,
    nice: i32,
    setup: Setup,
    /// How much memory a worker uses is of interest.
    watches_memory: bool,
}

impl Portable {
    pub(crate) fn watches_memory(&self) -> bool {
        self.watches_memory
    }

    pub(crate) fn into_settings(self) -> Settings {
        let Self { name, environment, directory, limits, affinity, nice, setup, watches_memory: _ } = self;
        let Setup { ignore_interrupts, initializer } = setup;
        Settings {
            name,
            environment,
            directory,
            limits,
            affinity,
            nice,
            ignore_interrupts,
            initializer,
            ..Settings::default()
        }
    }
}

impl Serialize for Initializer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.call, self.can_fail).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Initializer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (call, can_fail) = Deserialize::deserialize(deserializer)?;
        Ok(Self { call: Arc::new(call), can_fail })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "Worker".to_owned(),
            terms: Terms::default(),
            max_tasks: MOST_TASKS,
            prefetch: 1,
            idle_timeout: None,
            recycle_above: None,
            memory_limit: None,
            environment: Vec::new(),
            directory: None,
            streams: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            limits: Vec::new(),
            affinity: Affinity::Inherited,
            nice: 0,
            start_method: None,
            configure: None,
            program: None,
            ignore_interrupts: true,
            initializer: None,
        }
    }
}

impl Settings {
    pub(crate) fn setup(&self) -> Setup {
        Setup { ignore_interrupts: self.ignore_interrupts, initializer: self.initializer.clone() }
    }

    /// Leaves variables out of the workers' environment.
    pub(crate) fn hide(&mut self, names: impl IntoIterator<Item = OsString>) {
        self.environment.extend(names.into_iter().map(Environment::Remove));
    }

    /// What another host needs to start workers.
    ///
    /// # Errors
    ///
    /// What was set and is of this host alone.
    pub(crate) fn portable(&self) -> Result<Portable, &'static str> {
        if !self.streams.iter().all(Stdio::is_inherited) {
            return Err("a standard stream");
        }
        if self.program.is_some() {
            return Err("the program");
        }
        if self.start_method.is_some() {
            return Err("the start method");
        }
        if self.configure.is_some() {
            return Err("a function that configures workers");
        }
        if self.initializer.as_ref().is_some_and(|initializer| initializer.call.has_descriptors()) {
            return Err("an initializer with handles in its arguments");
        }
        Ok(Portable {
            name: self.name.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            limits: self.limits.clone(),
            affinity: self.affinity.clone(),
            nice: self.nice,
            setup: self.setup(),
            watches_memory: self.memory_limit.is_some() || self.recycle_above.is_some(),
        })
    }

    pub(crate) fn has_initializer(&self) -> bool {
        self.initializer.is_some()
    }

    /// What starts the `number`th worker, which has this place among those that there are.
    pub(crate) fn process_builder(&self, number: usize, place: usize) -> Result<Builder, SpawnError> {
        let mut builder = Builder::new().name(format!("{}-{number}", self.name));
        if let Some(method) = &self.start_method {
            builder = builder.start_method(method.clone());
        }
        for change in &self.environment {
            builder = match change {
                Environment::Set(name, value) => builder.env(name, value),
                Environment::Remove(name) => builder.env_remove(name),
                Environment::Clear => builder.env_clear(),
            };
        }
        if let Some(program) = &self.program {
            builder = builder.program(program);
        }
        if let Some(directory) = &self.directory {
            builder = builder.current_dir(directory);
        }
        let stream = |stream: &Stdio| stream.try_clone().map_err(io_error("duplicating a standard stream"));
        let [stdin, stdout, stderr] = &self.streams;
        builder = builder.stdin(stream(stdin)?).stdout(stream(stdout)?).stderr(stream(stderr)?);
        for &(resource, soft, hard) in &self.limits {
            builder = builder.rlimit(resource, soft, hard);
        }
        match &self.affinity {
            Affinity::Inherited => {}
            Affinity::All(processors) => builder = builder.cpu_affinity(processors.iter().copied()),
            Affinity::OneEach => {
                let allowed =
                    sched_getaffinity(None).map_err(|error| io_error("asking for processors")(error.into()))?;
                let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
                builder = builder.cpu_affinity(allowed.get(place % allowed.len().max(1)).copied());
            }
        }
        builder = builder.nice(self.nice);
        Ok(match &self.configure {
            Some(Configure(configure)) => configure(builder).outlive_parent(false),
            None => builder,
        })
    }
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> SpawnError {
    move |source| SpawnError::Io { action, source }
}
