//! What a builder says that holds on another host as well.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::environment::Environment;
use super::limits::Limits;
use super::stdio::Stdio;
use crate::boot::OwnSettings;

/// The settings of a [`Builder`] that another host can use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Portable {
    pub(super) name: Option<String>,
    pub(super) environment: Environment,
    pub(super) directory: Option<OsString>,
    pub(super) limits: Limits,
    pub(super) own: OwnSettings,
    pub(super) process_group: bool,
}

impl Portable {
    /// Takes the settings of a builder.
    ///
    /// # Errors
    ///
    /// Fails with what was set and concerns this host alone.
    pub fn of(builder: &Builder) -> Result<Self, &'static str> {
        match builder {
            Builder { streams, .. } if !streams.iter().all(Stdio::is_inherited) => Err("a standard stream"),
            Builder { program: Some(_), .. } => Err("the program"),
            Builder { start_method: Some(_), .. } => Err("the start method"),
            Builder { portable, .. } => Ok(portable.clone()),
        }
    }
}

impl From<Portable> for Builder {
    fn from(portable: Portable) -> Self {
        let mut builder = Self::new();
        builder.portable = portable;
        builder
    }
}
