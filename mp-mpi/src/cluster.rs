//! The ranks of a pool: how many workers each has, and what the pool knows of them.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, Weak};

use mp_core::raw::Message;
use mp_pool::raw::{Death, End, Hosts, Link, Scheduler};

use crate::letter::{Body, FromWorker, ToRank};
use crate::link::{Inbox, Remote, Urgency};
use crate::memory::is_frozen;
use crate::outbox::{Outbox, lock};
use crate::port::Hello;

/// A host, or the part of one that a rank has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its rank.
    pub rank: usize,
    /// The name of its host.
    pub host: String,
    /// How many processors the rank may use.
    pub cores: usize,
    /// The memory of the host, in bytes.
    pub memory: u64,
    /// How many workers it has.
    pub workers: usize,
}

/// Decides how many workers each rank has.
pub(crate) fn nodes(own: &Hello, hosts: &[Hello], workers: Option<usize>, leader_works: bool) -> Vec<Node> {
    let all = || std::iter::once(own).chain(hosts).enumerate().filter(|(rank, _)| *rank > 0 || leader_works);
    let mut ranks = HashMap::<&str, usize>::new();
    for (_, hello) in all() {
        *ranks.entry(&hello.host).or_default() += 1;
    }
    let working = |rank, hello: &Hello| {
        let of_host = ranks.get(&*hello.host).copied().unwrap_or(1).max(1);
        let most = workers.unwrap_or_else(|| hello.cores.div_ceil(of_host).max(1));
        if rank > 0 || leader_works { most } else { 0 }
    };
    let node = |(rank, hello): (usize, &Hello)| {
        let Hello { host, cores, memory, .. } = hello.clone();
        Node { rank, host, cores, memory, workers: working(rank, hello) }
    };
    std::iter::once(own).chain(hosts).enumerate().map(node).collect()
}

/// What has the workers of other ranks.
pub(crate) struct Cluster {
    /// By rank.
    nodes: Vec<Node>,
    outbox: Arc<Outbox>,
    known: Mutex<Known>,
}

/// What changes of it.
#[derive(Default)]
struct Known {
    /// By the number of the worker, with its rank.
    inboxes: HashMap<usize, (usize, Weak<Mutex<Inbox>>)>,
    /// The ranks that were lost.
    lost: HashSet<usize>,
}

impl Cluster {
    pub(crate) fn new(nodes: Vec<Node>, outbox: Arc<Outbox>) -> Self {
        Self { nodes, outbox, known: Mutex::default() }
    }

    /// How many workers there are on all ranks.
    pub(crate) fn workers(&self) -> usize {
        self.nodes.iter().map(|node| node.workers).sum()
    }

    /// How many workers there are on the ranks that were not lost.
    fn workers_left(&self) -> usize {
        let lost = &lock(&self.known).lost;
        self.nodes.iter().filter(|node| !lost.contains(&node.rank)).map(|node| node.workers).sum()
    }

    /// The rank of a place, and the place there.
    fn site(&self, place: usize) -> (usize, usize) {
        let mut place = place % self.workers().max(1);
        for node in &self.nodes {
            if place < node.workers {
                return (node.rank, place);
            }
            place -= node.workers;
        }
        (0, place)
    }
}

impl Hosts for Cluster {
    fn start(&self, number: usize, place: usize, name: String) -> Option<Box<dyn Link>> {
        let (rank, place) = self.site(place);
        if rank == 0 {
            return None;
        }
        let mut inbox = Inbox::default();
        let mut known = lock(&self.known);
        if known.lost.contains(&rank) {
            let end = End::NotStarted("its host was lost".to_owned());
            inbox.death = Some(Death { end, panic: None });
        }
        let inbox = Arc::new(Mutex::new(inbox));
        known.inboxes.retain(|_, (_, inbox)| inbox.strong_count() > 0);
        known.inboxes.insert(number, (rank, Arc::downgrade(&inbox)));
        drop(known);
        self.outbox.send(rank, ToRank::Start { number, place }, Body::Bytes(Vec::new()));
        let name = format!("{name} on {}", self.nodes[rank].host);
        Some(Box::new(Remote::new(Arc::clone(&self.outbox), rank, number, name, inbox)))
    }

    fn has(&self, place: usize) -> bool {
        // If all were lost, it is tried, so that the calls fail.
        self.workers_left() == 0 || !lock(&self.known).lost.contains(&self.site(place).0)
    }

    fn accepts(&self, message: &Message) -> Result<(), String> {
        if message.descriptors().iter().all(|file| is_frozen(file.as_fd())) {
            Ok(())
        } else {
            Err("it has handles, which belong to one host; only frozen memory can be sent to another".to_owned())
        }
    }
}

/// Where the pool takes in what ranks have sent.
pub(crate) struct Arrivals {
    cluster: Arc<Cluster>,
    scheduler: Arc<Scheduler>,
    urgency: Urgency,
}

impl Arrivals {
    pub(crate) fn new(cluster: Arc<Cluster>, scheduler: Arc<Scheduler>) -> Self {
        Self { cluster, scheduler, urgency: Urgency::None }
    }

    /// Takes in a letter of a worker. [`settle`](Self::settle) has the pool look at it.
    pub(crate) fn take_in(&mut self, letter: FromWorker, body: Vec<u8>) {
        let inbox = lock(&self.cluster.known).inboxes.get(&letter.worker).and_then(|(_, inbox)| inbox.upgrade());
        // A worker that was buried meanwhile has nothing more to say.
        if let Some(inbox) = inbox {
            self.urgency = self.urgency.max(lock(&inbox).take_in(letter, body));
        }
    }

    /// Notes that a rank is gone with all its workers. Nothing of it arrives any more. The tasks
    /// that it was sent fail with [`TaskError::NodeLost`](mp_pool::TaskError::NodeLost), or run
    /// again elsewhere if retries allow, because nobody can tell which of them it has begun.
    pub(crate) fn lost(&self, rank: usize) {
        let mut known = lock(&self.cluster.known);
        known.lost.insert(rank);
        for inbox in known.inboxes.values().filter(|(of, _)| *of == rank).filter_map(|(_, inbox)| inbox.upgrade()) {
            // It may have ended before.
            lock(&inbox).death.get_or_insert(Death { end: End::Lost, panic: None });
        }
        drop(known);
        self.scheduler.lost(self.cluster.workers(), self.cluster.workers_left());
    }

    /// Tells whether tasks are under way, so that it is worth looking for what arrives often.
    pub(crate) fn is_busy(&self) -> bool {
        self.scheduler.is_busy()
    }

    /// Has the pool look at what has arrived.
    pub(crate) fn settle(&mut self) {
        match std::mem::replace(&mut self.urgency, Urgency::None) {
            Urgency::None => {}
            Urgency::Results => self.scheduler.receive(),
            Urgency::Supervisor => self.scheduler.wake(),
        }
    }
}
