//! What a pool does and how it starts workers.

use std::mem;
use std::time::Duration;

use mp_core::raw::{self, EncodedCall};
use mp_core::{Builder, SpawnError};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

use crate::chunk::Terms;
use crate::wire::Shared;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Initializer {
    pub(crate) call: Shared<EncodedCall>,
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
    memory_limit: Option<u64>,
    recycle_above: Option<u64>,
}

impl Portable {
    pub(crate) fn into_settings(self) -> Settings {
        let Self { name, worker, one_core_each, setup, memory_limit, recycle_above } = self;
        let Setup { ignore_interrupts, initializer } = setup;
        let worker = worker.into();
        let limits = Settings { memory_limit, recycle_above, ..Settings::default() };
        Settings { name, worker, one_core_each, ignore_interrupts, initializer, ..limits }
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

    /// What another host needs to start workers.
    ///
    /// # Errors
    ///
    /// What was set and is of this host alone.
    pub(crate) fn portable(&self) -> Result<Portable, &'static str> {
        if self.initializer.as_ref().is_some_and(|initializer| initializer.call.0.has_descriptors()) {
            return Err("an initializer with handles in its arguments");
        }
        Ok(Portable {
            name: self.name.clone(),
            worker: raw::Portable::of(&self.worker)?,
            one_core_each: self.one_core_each,
            setup: self.setup(),
            memory_limit: self.memory_limit,
            recycle_above: self.recycle_above,
        })
    }

    /// How much memory workers use is of interest.
    pub(crate) fn watches_memory(&self) -> bool {
        self.memory_limit.is_some() || self.recycle_above.is_some()
    }

    pub(crate) fn has_initializer(&self) -> bool {
        self.initializer.is_some()
    }

    /// What the `number`th worker is called.
    pub(crate) fn name_of(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// What starts the `number`th worker, which has this place among those that there are.
    pub(crate) fn process_builder(&self, number: usize, place: usize) -> Result<Builder, SpawnError> {
        let io = |action| move |source| SpawnError::Io { action, source };
        let worker = self.worker.try_clone().map_err(io("duplicating a standard stream"))?;
        let worker = worker.name(self.name_of(number)).outlive_parent(false);
        if !self.one_core_each {
            return Ok(worker);
        }
        let allowed = sched_getaffinity(None).map_err(|error| io("asking for processors")(error.into()))?;
        let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
        Ok(worker.cpu_affinity(allowed.get(place % allowed.len().max(1)).copied()))
    }
}
