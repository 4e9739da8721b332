//! What a pool does and how it starts workers.

use std::ffi::OsString;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::{self, EncodedCall};
use mp_core::{Builder, SpawnError};
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
    /// What all workers are started like.
    pub(crate) worker: Builder,
    /// Each worker has a processor of its own.
    pub(crate) one_core_each: bool,
    pub(crate) ignore_interrupts: bool,
    pub(crate) initializer: Option<Initializer>,
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
    worker: raw::Portable,
    one_core_each: bool,
    setup: Setup,
    /// How much memory a worker uses is of interest.
    watches_memory: bool,
}

impl Portable {
    pub(crate) fn watches_memory(&self) -> bool {
        self.watches_memory
    }

    pub(crate) fn into_settings(self) -> Settings {
        let Self { name, worker, one_core_each, setup, watches_memory: _ } = self;
        let Setup { ignore_interrupts, initializer } = setup;
        let worker = worker.into();
        Settings { name, worker, one_core_each, ignore_interrupts, initializer, ..Settings::default() }
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
            worker: Builder::new(),
            one_core_each: false,
            ignore_interrupts: true,
            initializer: None,
        }
    }
}

impl Settings {
    pub(crate) fn setup(&self) -> Setup {
        Setup { ignore_interrupts: self.ignore_interrupts, initializer: self.initializer.clone() }
    }

    /// Changes what all workers are started like.
    pub(crate) fn configure(&mut self, change: impl FnOnce(Builder) -> Builder) {
        self.worker = change(mem::take(&mut self.worker));
    }

    /// Leaves variables out of the workers' environment.
    pub(crate) fn hide(&mut self, names: impl IntoIterator<Item = OsString>) {
        self.configure(|worker| names.into_iter().fold(worker, Builder::env_remove));
    }

    /// What another host needs to start workers.
    ///
    /// # Errors
    ///
    /// What was set and is of this host alone.
    pub(crate) fn portable(&self) -> Result<Portable, &'static str> {
        if self.initializer.as_ref().is_some_and(|initializer| initializer.call.has_descriptors()) {
            return Err("an initializer with handles in its arguments");
        }
        Ok(Portable {
            name: self.name.clone(),
            worker: raw::Portable::of(&self.worker)?,
            one_core_each: self.one_core_each,
            setup: self.setup(),
            watches_memory: self.memory_limit.is_some() || self.recycle_above.is_some(),
        })
    }

    pub(crate) fn has_initializer(&self) -> bool {
        self.initializer.is_some()
    }

    /// What starts the `number`th worker, which has this place among those that there are.
    pub(crate) fn process_builder(&self, number: usize, place: usize) -> Result<Builder, SpawnError> {
        let io = |action| move |source| SpawnError::Io { action, source };
        let worker = self.worker.try_clone().map_err(io("duplicating a standard stream"))?;
        let worker = worker.name(format!("{}-{number}", self.name)).outlive_parent(false);
        if !self.one_core_each {
            return Ok(worker);
        }
        let allowed = sched_getaffinity(None).map_err(|error| io("asking for processors")(error.into()))?;
        let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
        Ok(worker.cpu_affinity(allowed.get(place % allowed.len().max(1)).copied()))
    }
}
