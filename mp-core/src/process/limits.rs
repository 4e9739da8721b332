//! Limits of a process: resources, processors, niceness.

use std::io;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::SpawnError;
use crate::resource::Resource;
use crate::sys::limits;

/// The limits that the parent sets for a child before it sends the start message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    resources: Vec<(Resource, u64, u64)>,
    processors: Option<Vec<usize>>,
    nice: i32,
}

impl Limits {
    pub(super) fn resource(&mut self, resource: Resource, soft: u64, hard: u64) {
        // Only the last call for a resource counts: after a lower hard limit, a higher one would
        // fail.
        self.resources.retain(|(earlier, ..)| *earlier != resource);
        self.resources.push((resource, soft, hard));
    }

    pub(super) fn processors(&mut self, processors: Vec<usize>) {
        self.processors = Some(processors);
    }

    pub(super) fn nice(&mut self, increment: i32) {
        self.nice = increment;
    }

    /// The limits of the stack, which the child has to set again: the kernel restores the old ones
    /// at the end of exec, which may be after the parent set these. The child may set them, because
    /// its parent could.
    pub(super) fn stack(&self) -> Option<(u64, u64)> {
        let stack = self.resources.iter().find(|(resource, ..)| *resource == Resource::StackSize);
        stack.map(|&(_, soft, hard)| (soft, hard))
    }

    /// Applies everything to `child`, which is not reaped and has not received its start message.
    pub(super) fn apply(&self, child: Pid) -> Result<(), SpawnError> {
        if self.nice != 0 {
            check(limits::renice(child, self.nice), || format!("a niceness {:+} from that of its parent", self.nice))?;
        }
        if let Some(processors) = &self.processors {
            check(limits::set_affinity(child, processors), || format!("the processors {processors:?}"))?;
        }
        for &(resource, soft, hard) in &self.resources {
            let result = if soft > hard {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the soft limit is above the hard limit"))
            } else {
                limits::set_resource(Some(child), resource, soft, hard)
            };
            check(result, || format!("a limit of {resource:?}, soft {}, hard {}", value(soft), value(hard)))?;
        }
        Ok(())
    }
}

/// Returns a limit as text.
fn value(limit: u64) -> String {
    if limit == Resource::UNLIMITED { "unlimited".to_owned() } else { limit.to_string() }
}

fn check(result: io::Result<()>, setting: impl FnOnce() -> String) -> Result<(), SpawnError> {
    match result {
        // The child has already ended. Joining it says how.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.map_err(|source| SpawnError::Setting { setting: setting(), source }),
    }
}
