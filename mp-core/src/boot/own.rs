//! What a child sets for itself, because its parent cannot.

use std::fmt::Display;
use std::io;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::sys::privileges;

/// The settings of a child that it applies before any code of the user runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OwnSettings {
    pub(crate) umask: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) user: Option<u32>,
    pub(crate) no_new_privileges: bool,
}

impl OwnSettings {
    /// Applies them to this process, the group before the user, who may not change it.
    ///
    /// # Errors
    ///
    /// The text says what could not be set.
    pub(super) fn apply(&self) -> Result<(), String> {
        if let Some(mask) = self.umask {
            rustix::process::umask(Mode::from_bits_truncate(mask));
        }
        if self.user.is_some() {
            privileges::leave_groups().map_err(failed("leave the groups of its parent"))?;
        }
        if let Some(group) = self.group {
            privileges::set_group(group).map_err(failed(format_args!("become group {group}")))?;
        }
        if let Some(user) = self.user {
            privileges::set_user(user).map_err(failed(format_args!("become user {user}")))?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|error| failed("give up new privileges")(error.into()))?;
        }
        Ok(())
    }
}

fn failed(what: impl Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("it could not {what}: {error}")
}
