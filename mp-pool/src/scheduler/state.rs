//! The calls that have not ended, and the workers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mp_core::raw::Outcome;

use crate::batch::{Delivery, Ends};
use crate::chunk::{Function, Run, Sink};
use crate::error::TaskError;
use crate::later::Later;
use crate::link::{Hosts, Link};
use crate::report::{Alive, Recorder, Report, TaskName, now};
use crate::settings::Settings;
use crate::slot::Slot;
use crate::stats::Stats;

/// How long the calls that are sent at once may take.
///
/// The worker wakes the pool after half of that, and each wake-up costs some 40 µs of a processor:
/// one in a hundred where every processor has a worker.
pub(crate) const SLICE: Duration = Duration::from_millis(6);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Calls are taken in.
    Open,
    /// No more are; those that were taken in go on.
    Closed,
    /// Everything ends.
    Terminated,
    /// The workers and the supervisor have ended.
    Gone,
}

pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    /// What has workers elsewhere.
    pub(super) hosts: Option<Arc<dyn Hosts>>,
    pub(super) phase: Phase,
    pub(super) queue: Queue,
    pub(super) workers: Vec<Worker>,
    /// How many workers there should be.
    pub(super) target: usize,
    /// How many threads look for results, so that workers need not wake anybody.
    pub(super) looking: usize,
    /// How many threads wait for the queue to become shorter.
    pub(super) waiters: usize,
    /// What to run without the lock.
    pub(super) later: Vec<Later>,
    /// There is something for the supervisor to look at.
    pub(super) wants_supervisor: bool,
    /// When the supervisor wakes by itself; `None` is never.
    pub(super) supervisor_wakes: Option<Instant>,
    /// How many workers in a row did nothing, and why the last one did not.
    pub(super) failures: u32,
    pub(super) failure: TaskError,
    /// When to try again to start the workers that are missing.
    pub(super) retry: Option<Instant>,
    /// A worker could not be sent a message, for lack of room.
    pub(super) clogged: bool,
    /// Workers cannot be started for now.
    pub(super) gave_up: bool,
    pub(super) stats: Stats,
    pub(super) recorder: Recorder,
    /// Memory for entries.
    pub(super) buffer: Vec<u8>,
    /// Counts what was sent, to know which worker was sent something last.
    pub(super) sends: u64,
}

pub(super) struct Worker {
    pub(super) link: Box<dyn Link>,
    pub(super) number: usize,
    pub(super) place: usize,
    /// When it was started, by the monotonic clock in nanoseconds.
    pub(super) started: u64,
    /// It has said that it is ready.
    pub(super) ready: bool,
    /// It has answered a call.
    pub(super) proven: bool,
    /// It gets no more calls.
    pub(super) leaving: bool,
    /// Since when it is about to end.
    pub(super) dismissed: Option<Instant>,
    /// Why it ends, if that is no failure or was counted as one.
    pub(super) expected_to_end: Option<&'static str>,
    /// It has closed its end of the connection.
    pub(super) silent: bool,
    /// Why it was killed, if the pool did that.
    pub(super) condemned: Option<Verdict>,
    /// What it has and has not answered, in the order of the numbers.
    pub(super) sent: VecDeque<Sent>,
    /// The number of the first call of `sent`.
    pub(super) answered: u32,
    /// The number that the next call to be sent gets.
    pub(super) next_number: u32,
    /// Where it was fenced off from what was taken back.
    pub(super) fence: Option<u32>,
    /// How many nanoseconds the calls of `sent` take.
    pub(super) load: u64,
    /// How many of them have a message.
    pub(super) messages: usize,
    /// How calls ended whose entries were not read.
    pub(super) unannounced: VecDeque<Result<(u32, Outcome), TaskError>>,
    /// How many calls it has answered.
    pub(super) done: u32,
    /// How many it had when its memory was looked at.
    pub(super) looked_at: u32,
    /// The function and the time limit that it was told last.
    pub(super) function: Option<(Arc<Function>, Option<Duration>)>,
    /// How many calls were answered since it last said how long they took.
    pub(super) untimed: u64,
    /// How many of them did not return.
    pub(super) untimed_failed: u64,
    /// The function of the call that it answered last, and the call's index.
    pub(super) answered_function: Option<Arc<Function>>,
    pub(super) answered_index: u64,
    /// When the last call ended of which it has said how long it took.
    pub(super) busy_until: u64,
    /// The number of the call that it was seen running, and since when.
    pub(super) running: Option<(u32, Instant)>,
    /// Since when it has nothing to do.
    pub(super) idle_since: Instant,
    /// The last time that it was sent something, in the order of all.
    pub(super) last_sent: u64,
}

/// A run of calls that a worker has.
pub(super) struct Sent {
    pub(super) run: Run,
    /// How many nanoseconds each call was thought to take.
    pub(super) cost: u64,
    /// When they were sent, by the monotonic clock.
    pub(super) at: u64,
}

/// Why the pool has killed a worker, and for which call.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    TimedOut(Duration),
    OutOfMemory { used: u64, limit: u64 },
    Cancelled,
    Misbehaved,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "killed at its time limit of {limit:?}"),
            Self::OutOfMemory { used, limit } => write!(f, "killed with {used} bytes of memory, more than {limit}"),
            Self::Cancelled => f.write_str("killed because its task was cancelled"),
            Self::Misbehaved => f.write_str("killed because it broke the protocol"),
        }
    }
}

impl Worker {
    fn new(link: Box<dyn Link>, number: usize, place: usize) -> Self {
        Self {
            link,
            number,
            place,
            started: now(),
            ready: false,
            proven: false,
            leaving: false,
            dismissed: None,
            expected_to_end: None,
            silent: false,
            condemned: None,
            sent: VecDeque::new(),
            answered: 0,
            next_number: 0,
            fence: None,
            load: 0,
            messages: 0,
            unannounced: VecDeque::new(),
            done: 0,
            looked_at: 0,
            function: None,
            untimed: 0,
            untimed_failed: 0,
            answered_function: None,
            answered_index: 0,
            busy_until: 0,
            running: None,
            idle_since: Instant::now(),
            last_sent: 0,
        }
    }

    /// How many calls it has not answered.
    pub(super) fn unanswered(&self) -> u32 {
        self.fence.unwrap_or(self.next_number) - self.answered
    }

    /// The task that it is running.
    pub(super) fn running_task(&self) -> Option<TaskName> {
        let first = self.sent.front().filter(|_| self.link.claimed().next != self.answered)?;
        Some(TaskName { function: first.run.chunk.function.name, index: first.run.index(0) })
    }

    pub(super) fn takes_calls(&self) -> bool {
        self.ready && !self.leaving && self.fence.is_none() && self.condemned.is_none() && !self.link.is_taking_back()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.takes_calls() && self.unanswered() == 0
    }
}

impl State {
    pub(super) fn new(settings: Arc<Settings>, target: usize, hosts: Option<Arc<dyn Hosts>>) -> Self {
        Self {
            settings,
            hosts,
            phase: Phase::Open,
            queue: Queue::default(),
            workers: Vec::new(),
            target,
            looking: 0,
            waiters: 0,
            later: Vec::new(),
            wants_supervisor: false,
            supervisor_wakes: None,
            failures: 0,
            failure: TaskError::PoolClosed,
            retry: None,
            clogged: false,
            gave_up: false,
            stats: Stats::default(),
            recorder: Recorder::new(),
            buffer: Vec::new(),
            sends: 0,
        }
    }

    /// The number and the place of the next worker.
    pub(super) fn next_worker(&mut self) -> (usize, usize) {
        self.stats.started += 1;
        let is_free = |place| self.workers.iter().all(|worker| worker.leaving || worker.place != place);
        let exists = |place| self.hosts.as_ref().is_none_or(|hosts| hosts.has(place));
        let place = (0..).find(|place| is_free(*place) && exists(*place));
        (self.stats.started as usize, place.unwrap_or(0))
    }

    pub(super) fn add(&mut self, link: Box<dyn Link>, number: usize, place: usize) {
        self.recorder.started(place);
        self.workers.push(Worker::new(link, number, place));
    }

    pub(super) fn submit(&mut self, run: Run) {
        match (&self.failure, self.phase) {
            (_, Phase::Open) if !self.gave_up => {}
            (TaskError::Initializer(_), Phase::Open) => return self.fail(run, &self.failure.clone()),
            (_, Phase::Open) => {
                // One more try.
                self.gave_up = false;
                self.failures = super::supervisor::MOST_FAILURES - 1;
                self.retry = None;
            }
            _ => return self.fail(run, &TaskError::PoolClosed),
        }
        self.queue.push_back(run);
        self.dispatch();
        if !self.queue.is_empty() && self.missing() > 0 {
            self.wants_supervisor = true;
        }
    }

    /// How many workers there should be and are not.
    pub(super) fn missing(&self) -> usize {
        let needed = match self.phase {
            Phase::Open | Phase::Closed if !self.queue.is_empty() => self.target,
            Phase::Open if self.settings.idle_timeout.is_none() => self.target,
            Phase::Closed if !self.is_drained() && self.settings.idle_timeout.is_none() => self.target,
            _ => 0,
        };
        let there = || self.workers.iter().filter(|worker| !worker.leaving);
        let missing = needed.saturating_sub(there().count());
        match self.failures {
            _ if self.gave_up => 0,
            0 => missing,
            // One is enough to find out whether there can be more.
            _ => missing.min(usize::from(there().all(|worker| worker.ready))),
        }
    }

    /// Whether there is no call that has not ended.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.workers.iter().all(|worker| worker.sent.is_empty())
    }

    /// Tells those who wait for calls that the calls failed.
    pub(super) fn fail(&mut self, run: Run, error: &TaskError) {
        self.later.extend(run.fail(error));
    }

    /// Fails everything that waits.
    pub(super) fn fail_queue(&mut self, error: &TaskError) {
        while let Some(run) = self.queue.pop_front() {
            self.fail(run, error);
        }
    }

    /// Changes how many workers there are.
    pub(super) fn resize(&mut self, target: usize) {
        self.target = target;
        self.wants_supervisor = true;
        self.dismiss_surplus();
        self.dispatch();
    }

    /// Goes on with the places that are left of so many, each with as many workers as before.
    /// Returns how many workers there are to be.
    pub(super) fn lose(&mut self, places: usize, left: usize) -> usize {
        let each = self.target.div_ceil(places.max(1));
        // Without a place it is tried, so that the calls fail.
        self.target = self.target.min((each * left).max(1));
        self.wants_supervisor = true;
        self.target
    }

    /// Has workers end of which there are too many.
    pub(super) fn dismiss_surplus(&mut self) {
        let there = self.workers.iter().filter(|worker| !worker.leaving).count();
        // Those that have nothing to do go first.
        let mut order: Vec<usize> = (0..self.workers.len()).filter(|index| !self.workers[*index].leaving).collect();
        order.sort_by_key(|index| (self.workers[*index].unanswered(), std::cmp::Reverse(self.workers[*index].number)));
        for index in order.into_iter().take(there.saturating_sub(self.target)) {
            self.dismiss(index, "the pool was made smaller");
        }
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            workers: self.workers.len(),
            idle: self.workers.iter().filter(|worker| worker.is_idle()).count(),
            queued: self.queue.len(),
            sent: self.workers.iter().map(|worker| worker.unanswered() as usize).sum(),
            ..self.stats
        }
    }

    pub(super) fn report(&mut self) -> Report {
        self.receive_all();
        let alive = self.workers.iter().map(|worker| Alive {
            place: worker.place,
            number: worker.number,
            started: worker.started,
            running: worker.running_task(),
        });
        self.recorder.report(self.stats(), alive.collect())
    }

    /// Cancels a task; false if it has ended.
    pub(super) fn cancel(&mut self, slot: &Arc<Slot>) -> bool {
        // Its result may be here already.
        self.receive_all();
        if slot.is_done() {
            return false;
        }
        self.stats.cancelled += 1;
        let is_it = |sent: &Sent| matches!(&sent.run.chunk.sink, Sink::Task(other) if Arc::ptr_eq(other, slot));
        let holder = self.workers.iter().position(|worker| worker.sent.iter().any(is_it));
        let Some(index) = holder else {
            // In the queue it is passed over from now on.
            self.later.extend(slot.finish(Ends::Failed(TaskError::Cancelled)));
            return true;
        };
        self.later.extend(slot.finish(Ends::Failed(TaskError::Cancelled)));
        self.kill_cancelled(index);
        self.dispatch();
        true
    }

    /// Takes the calls of forgotten maps back from the workers, so that they never begin.
    pub(super) fn take_back_forgotten(&mut self) {
        self.queue.drop_forgotten();
        for index in 0..self.workers.len() {
            if self.workers[index].sent.iter().any(|sent| sent.run.is_forgotten()) {
                self.take_back(index, 0);
            }
        }
        self.dispatch();
    }

    /// Kills a worker for what its call does. Everything else was taken back from it.
    pub(super) fn condemn(&mut self, index: usize, verdict: Verdict) {
        let worker = &mut self.workers[index];
        worker.leaving = true;
        worker.condemned.get_or_insert(verdict);
        worker.link.kill();
    }

    /// Kills a worker that broke the protocol.
    pub(super) fn misbehaved(&mut self, index: usize) {
        if self.workers[index].condemned.is_none() {
            self.stats.misbehaved += 1;
        }
        self.condemn(index, Verdict::Misbehaved);
    }
}

impl Run {
    /// Tells those who wait for the calls that the calls failed.
    pub(super) fn fail(self, error: &TaskError) -> Option<Later> {
        let ends = Ends::Failed(error.clone());
        match &self.chunk.sink {
            Sink::Task(slot) => slot.finish(ends),
            Sink::Batch(batch, first) => {
                let first = first + self.items.start as usize;
                batch.deliver(Delivery { first, count: self.len() as usize, ends })
            }
        }
    }
}

/// Calls that no worker has: those of a higher priority first, then in the order in which they
/// came.
#[derive(Default)]
pub(super) struct Queue {
    lanes: BTreeMap<i32, VecDeque<Run>>,
    calls: usize,
}

impl Queue {
    /// How many calls there are.
    pub(super) fn len(&self) -> usize {
        self.calls
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0
    }

    fn lane(&mut self, run: &Run) -> &mut VecDeque<Run> {
        self.calls += run.len() as usize;
        self.lanes.entry(run.chunk.terms.priority).or_default()
    }

    pub(super) fn push_back(&mut self, run: Run) {
        self.lane(&run).push_back(run);
    }

    pub(super) fn push_front(&mut self, run: Run) {
        self.lane(&run).push_front(run);
    }

    /// The next calls that were not forgotten.
    pub(super) fn front(&mut self) -> Option<&mut Run> {
        while let Some(mut lane) = self.lanes.last_entry() {
            match lane.get().front() {
                None => drop(lane.remove()),
                Some(run) if run.is_forgotten() => {
                    self.calls -= run.len() as usize;
                    lane.get_mut().pop_front();
                }
                Some(_) => break,
            }
        }
        self.lanes.last_entry()?.into_mut().front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<Run> {
        self.front()?;
        let run = self.lanes.last_entry()?.get_mut().pop_front()?;
        self.calls -= run.len() as usize;
        Some(run)
    }

    /// Takes the first calls of the first run.
    pub(super) fn take_front(&mut self, count: u32) -> Option<Run> {
        let run = self.front()?;
        if run.len() <= count {
            return self.pop_front();
        }
        let front = run.split_off_front(count);
        self.calls -= count as usize;
        Some(front)
    }

    fn drop_forgotten(&mut self) {
        let calls = &mut self.calls;
        for lane in self.lanes.values_mut() {
            lane.retain(|run| {
                let kept = !run.is_forgotten();
                *calls -= if kept { 0 } else { run.len() as usize };
                kept
            });
        }
    }
}
