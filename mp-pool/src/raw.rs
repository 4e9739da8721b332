//! For code that gives a pool workers on other hosts, as mp-mpi does. Programs do not need this
//! module.
//!
//! [`start`] makes a pool whose workers are partly elsewhere: [`Hosts`] starts those, and gives the
//! pool a [`Link`] to each. On the other host, [`Workers`] starts ordinary workers, to which there
//! are links as well. What stands between two links only passes on: limits, retries, cancelling,
//! statistics and the report are the pool's.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use mp_core::raw::{decode_plain, error_chain};
use mp_core::{Builder, SpawnError};

use crate::builder::PoolBuilder;
use crate::error::PoolError;
use crate::events::Events;
use crate::link::Start;
pub use crate::link::{Broken, Claimed, Death, End, Hosts, Link, NO_END, News, SendFailure};
use crate::packed::{Header, Kind};
use crate::pool::Pool;
pub use crate::report::now;
pub use crate::scheduler::Scheduler;
use crate::settings::Portable;

/// Starts a pool that has workers elsewhere. [`PoolBuilder::workers`] says how many there are, with
/// those of this host.
///
/// # Errors
///
/// [`PoolError`]; no worker is left then.
pub fn start(builder: PoolBuilder, hosts: Arc<dyn Hosts>) -> Result<(Pool, Arc<Scheduler>), PoolError> {
    let pool = builder.start(Some(hosts))?;
    let scheduler = Arc::clone(pool.scheduler());
    Ok((pool, scheduler))
}

/// Returns what [`Workers`] of this pool are made from on another host.
///
/// # Errors
///
/// What was set of the pool that belongs to one host.
pub fn setup(builder: &PoolBuilder) -> Result<Vec<u8>, &'static str> {
    let portable = builder.settings.portable()?;
    let encoded = mp_core::raw::Message::encode(&portable).ok().and_then(|message| message.to_vec().ok());
    encoded.ok_or("an initializer that cannot be encoded")
}

/// Counts the calls that these entries of a worker answer, and the [outcomes](News::Outcome) that
/// they announce.
///
/// # Errors
///
/// They are no entries.
pub fn answers(entries: &[u8]) -> Result<(u32, usize), Broken> {
    let (mut at, mut calls, mut outcomes) = (0, 0, 0);
    while at < entries.len() {
        let header = Header::at(&entries[at..]).ok_or(Broken)?;
        at += header.whole();
        calls += u32::from(matches!(header.kind, Kind::Value | Kind::Message | Kind::Outcome | Kind::Unreadable));
        outcomes += usize::from(header.kind == Kind::Message);
    }
    Ok((calls, outcomes))
}

/// Starts workers of this host for the pool of another one.
pub struct Workers(Start);

impl Workers {
    /// Takes the [setup](setup()) of a pool. The workers do not have the environment variables in
    /// `hidden`.
    ///
    /// # Errors
    ///
    /// The bytes are not such a setup, or the kernel has no memory to wait with.
    pub fn new(setup: &mut [u8], hidden: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let portable: Portable = decode_plain(setup).map_err(|error| error_chain(&error))?;
        let mut settings = portable.into_settings();
        settings.configure(|worker| hidden.into_iter().fold(worker, Builder::env_remove));
        let events = Events::new().map_err(|error| format!("there is nothing to wait with: {error}"))?;
        Ok(Self(Start { settings: Arc::new(settings), hosts: None, events: Arc::new(events) }))
    }

    /// Starts a worker, the `number`th of the pool, in this place among those of this host.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn start(&self, number: usize, place: usize) -> Result<Box<dyn Link>, SpawnError> {
        self.0.start(number, place)
    }

    /// Tells whether the pool wants to know how much memory workers use.
    pub fn watches_memory(&self) -> bool {
        self.0.settings.watches_memory()
    }
}

/// Readable when a worker has said something or has ended.
impl AsFd for Workers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.events.as_fd()
    }
}
