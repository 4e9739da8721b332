//! For code that gives a pool workers on other hosts, as mp-mpi does. Programs do not need this
//! module.
//!
//! [`start`] makes a pool whose workers are partly on nodes. A [`Carrier`] takes its letters there,
//! where a [`Node`] has the worker processes, and what nodes send back is given to [`Arrivals`].
//! The scheduler is the same: limits, retries, cancelling, statistics and the report are the
//! pool's, and a node only passes on.

use std::sync::{Arc, PoisonError};

use mp_core::raw::{decode_plain, error_chain};

use crate::builder::PoolBuilder;
use crate::error::PoolError;
use crate::link::cluster::Cluster;
pub use crate::link::cluster::{Carrier, Site};
pub use crate::link::remote::{Body, Letter};
use crate::link::remote::{FromRemote, Told, Urgency};
pub use crate::node::Node;
use crate::packed::{Header, Kind};
use crate::pool::Pool;
use crate::report::now;
use crate::scheduler::Scheduler;

/// Returns what a [`Node`] needs to start workers of this pool.
///
/// # Errors
///
/// What was set of the pool that belongs to one host.
pub fn setup(builder: &PoolBuilder) -> Result<Vec<u8>, &'static str> {
    let portable = builder.settings.portable()?;
    let encoded = mp_core::raw::Message::encode(&portable).ok().and_then(|message| message.to_vec().ok());
    encoded.ok_or("an initializer that cannot be encoded")
}

/// Starts a pool that has `local` workers on this host and others on nodes, in the order of their
/// numbers. [`PoolBuilder::workers`] does not matter. The workers of this host do not have the
/// environment variables in `hidden`.
///
/// # Errors
///
/// [`PoolError`]; no worker is left then. A node that cannot start a worker does not count: if no
/// worker can be started, tasks fail with [`TaskError::NoWorker`](crate::TaskError::NoWorker).
pub fn start(
    mut builder: PoolBuilder,
    local: usize,
    sites: Vec<Site>,
    hidden: impl IntoIterator<Item = std::ffi::OsString>,
    carrier: Arc<dyn Carrier>,
) -> Result<(Pool, Arrivals), PoolError> {
    if let Some(error) = builder.failure {
        return Err(PoolError::Encode(error));
    }
    builder.settings.hide(hidden);
    let offsets = vec![None; sites.len()];
    let cluster = Arc::new(Cluster::new(local, sites, carrier, builder.settings.name.clone()));
    if cluster.workers() == 0 {
        return Err(PoolError::NoWorkers);
    }
    let started = Scheduler::start(builder.settings, cluster.workers(), Some(Arc::clone(&cluster)))?;
    let scheduler = Arc::clone(&started.0);
    Ok((Pool::of(started), Arrivals { cluster, scheduler, offsets, urgency: Urgency::None }))
}

/// Where a pool takes in what its nodes have sent.
pub struct Arrivals {
    cluster: Arc<Cluster>,
    scheduler: Arc<Scheduler>,
    /// What to add to a node's clock to get this host's, as far as letters have shown.
    offsets: Vec<Option<i64>>,
    urgency: Urgency,
}

impl Arrivals {
    /// Takes in a letter of a node. [`settle`](Self::settle) has the pool look at it.
    ///
    /// # Errors
    ///
    /// The letter is none of a node.
    pub fn arrived(&mut self, node: usize, head: &mut [u8], mut body: Vec<u8>) -> Result<(), String> {
        let from: FromRemote = decode_plain(head).map_err(|error| error_chain(&error))?;
        let offset = self.offsets.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?;
        // The fastest letter is nearest to the truth.
        let seen = now().wrapping_sub(from.at) as i64;
        let offset = *offset.insert(offset.map_or(seen, |before| before.min(seen)));
        if matches!(from.what, Told::Results) {
            translate_times(&mut body, offset);
        }
        // A worker that was buried meanwhile has nothing more to say.
        if let Some(inbox) = self.cluster.inbox(from.worker) {
            let urgency = inbox.lock().unwrap_or_else(PoisonError::into_inner).take_in(from, body);
            self.urgency = self.urgency.max(urgency);
        }
        Ok(())
    }

    /// Notes that a node is gone with all its workers. Nothing of it arrives any more. The tasks
    /// that it was sent fail with [`TaskError::NodeLost`](crate::TaskError::NodeLost), or run again
    /// elsewhere if retries allow, because nobody can tell which of them it has begun.
    pub fn lost(&mut self, node: usize) {
        if self.cluster.lose(node) {
            self.scheduler.lost(&self.cluster);
        }
    }

    /// Tells whether tasks are under way, so that it is worth looking for what arrives often.
    pub fn is_busy(&self) -> bool {
        self.scheduler.is_busy()
    }

    /// Has the pool look at what has arrived.
    pub fn settle(&mut self) {
        let urgency = std::mem::replace(&mut self.urgency, Urgency::None);
        self.scheduler.arrived(urgency);
    }
}

/// Writes this host's clock over a node's, where entries say when something ended.
fn translate_times(entries: &mut [u8], offset: i64) {
    let mut at = 0;
    while let Some(header) = entries.get(at..).filter(|rest| !rest.is_empty()).and_then(Header::at) {
        let bytes = header.bytes(at);
        at += header.whole();
        let end = if header.kind == Kind::Time {
            entries.get_mut(bytes).and_then(|bytes| bytes.get_mut(8..16))
        } else {
            None
        };
        if let Some(end) = end.and_then(|end| <&mut [u8; 8]>::try_from(end).ok()) {
            *end = u64::from_le_bytes(*end).wrapping_add_signed(offset).to_le_bytes();
        }
    }
}
