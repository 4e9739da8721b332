//! The nodes of a pool, and what takes letters there.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use mp_core::raw::Message;

use super::remote::{Inbox, Letter, ToNode, lock};
use super::{Death, End};

/// Takes letters to nodes.
pub trait Carrier: Send + Sync {
    /// Takes in a letter for a node. It does not wait, and takes no lock that is held while an
    /// [`Arrivals`](crate::raw::Arrivals) is used.
    fn send(&self, node: usize, letter: Letter);

    /// Tells whether a value with descriptors can be sent.
    ///
    /// # Errors
    ///
    /// The text says why it cannot.
    fn accepts(&self, message: &Message) -> Result<(), String>;
}

/// A node that has workers.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name of its host.
    pub host: String,
    /// How many workers it has.
    pub workers: usize,
}

/// The nodes of a pool, and what has come from their workers.
pub(crate) struct Cluster {
    /// How many places are on this host.
    local: usize,
    sites: Vec<Site>,
    carrier: Arc<dyn Carrier>,
    /// What the workers are called.
    name: String,
    known: Mutex<Known>,
}

/// What changes of it.
#[derive(Default)]
struct Known {
    /// By the number of the worker, with its node.
    inboxes: HashMap<usize, (usize, Arc<Mutex<Inbox>>)>,
    /// The nodes that were lost.
    lost: HashSet<usize>,
}

impl Cluster {
    pub(crate) fn new(local: usize, sites: Vec<Site>, carrier: Arc<dyn Carrier>, name: String) -> Self {
        Self { local, sites, carrier, name, known: Mutex::default() }
    }

    /// How many workers there are on all hosts.
    pub(crate) fn workers(&self) -> usize {
        self.local + self.sites.iter().map(|site| site.workers).sum::<usize>()
    }

    /// The node of a place, and the place there; `None` if it is on this host.
    pub(crate) fn site(&self, place: usize) -> Option<(usize, usize)> {
        let mut place = place % self.workers().max(1);
        place = place.checked_sub(self.local)?;
        self.sites.iter().enumerate().find_map(|(node, site)| {
            let found = (place < site.workers).then_some((node, place));
            place = place.saturating_sub(site.workers);
            found
        })
    }

    /// How many workers there are on the hosts that were not lost.
    pub(crate) fn workers_left(&self) -> usize {
        let lost = &lock(&self.known).lost;
        self.workers() - lost.iter().map(|node| self.sites[*node].workers).sum::<usize>()
    }

    /// Whether a worker can be in this place, or in none.
    pub(crate) fn has(&self, place: usize) -> bool {
        self.workers_left() == 0 || self.site(place).is_none_or(|(node, _)| !lock(&self.known).lost.contains(&node))
    }

    /// All workers of a node are gone, and none is started there any more. Returns false if that
    /// was known, or if there is no such node.
    pub(crate) fn lose(&self, node: usize) -> bool {
        let known = &mut *lock(&self.known);
        let is_new = node < self.sites.len() && known.lost.insert(node);
        for (_, inbox) in known.inboxes.values().filter(|(of, _)| is_new && *of == node) {
            // It may have ended before.
            lock(inbox).death.get_or_insert(Death { end: End::Lost, panic: None });
        }
        is_new
    }

    /// Tells whether a value with descriptors can be sent to every worker.
    pub(crate) fn accepts(&self, message: &Message) -> Result<(), String> {
        if message.has_descriptors() { self.carrier.accepts(message) } else { Ok(()) }
    }

    /// Starts a worker on a node. If the node was lost, the worker has ended.
    pub(super) fn start(&self, node: usize, number: usize, place: usize) -> Arc<Mutex<Inbox>> {
        let inbox = Arc::<Mutex<Inbox>>::default();
        let known = &mut *lock(&self.known);
        known.inboxes.insert(number, (node, Arc::clone(&inbox)));
        if known.lost.contains(&node) {
            let end = End::NotStarted("its host was lost".to_owned());
            lock(&inbox).death = Some(Death { end, panic: None });
        }
        self.send(node, Letter::bare(&ToNode::Start { number, place }));
        inbox
    }

    /// Forgets a worker that has ended.
    pub(super) fn forget(&self, worker: usize) {
        lock(&self.known).inboxes.remove(&worker);
    }

    pub(super) fn send(&self, node: usize, letter: Letter) {
        self.carrier.send(node, letter);
    }

    /// What a worker of this node is called.
    pub(super) fn name(&self, node: usize, worker: usize) -> String {
        format!("{}-{worker} on {}", self.name, self.sites[node].host)
    }

    pub(crate) fn inbox(&self, worker: usize) -> Option<Arc<Mutex<Inbox>>> {
        lock(&self.known).inboxes.get(&worker).map(|(_, inbox)| Arc::clone(inbox))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("local", &self.local).field("sites", &self.sites).finish_non_exhaustive()
    }
}
