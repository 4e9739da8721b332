//! Which worker gets which calls, and takes them back.

use std::cmp::Reverse;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Phase, SLICE, Sent, State, Verdict, Worker};
use crate::board::Broken;
use crate::chunk::{Cargo, Run, Sink};
use crate::error::TaskError;
use crate::link::{Hosts, Link, SendFailure};
use crate::packed::{self, HEADER, Kind};
use crate::report::now;

const SLICE_NANOSECONDS: u64 = SLICE.as_nanos() as u64;

/// A worker wakes the pool after so many nanoseconds of calls, and so after each call that takes
/// longer.
pub(super) const WAKES_AFTER: u64 = SLICE_NANOSECONDS / 2;

/// Room for the entries that have the worker wake the pool, of which a slice has fewer than six.
const NOTIFIES: usize = 8 * HEADER;

/// Taking calls back is worth it if they take longer than this in all, in nanoseconds, or the
/// worker has not gone on for as long.
const WORTH_TAKING_BACK: u64 = 100_000;

/// How many calls with messages are under way to a worker at once.
const MESSAGES: usize = 2;

/// How many times the calls that are sent to a worker at once go into what there are for each.
const SHARES: usize = 2;

impl State {
    /// Sends waiting calls to workers that can do with them.
    pub(super) fn dispatch(&mut self) {
        if self.phase >= Phase::Terminated {
            return;
        }
        self.clogged = false;
        while self.queue.front().is_some() {
            let Some(index) = self.neediest() else { break };
            if !self.send_some(index) {
                break;
            }
        }
        if self.queue.is_empty() {
            self.rebalance();
        }
        self.ask_for_supervisor();
    }

    /// The worker that is to get calls next: an idle one, the one that worked last, whose memory is
    /// still in the processor's cache, or the one that has least to do of those that are about to
    /// have nothing.
    fn neediest(&self) -> Option<usize> {
        let prefetch = self.settings.prefetch;
        let wants = |worker: &&(usize, &Worker)| {
            let (_, worker) = worker;
            let ahead = worker.unanswered();
            let room = worker.done.saturating_add(ahead) < self.settings.max_tasks && worker.messages < MESSAGES;
            let short = prefetch > 0 && worker.load < SLICE_NANOSECONDS;
            worker.takes_calls() && room && (ahead == 0 || ahead <= prefetch || short)
        };
        let workers = self.workers.iter().enumerate();
        let key = |(_, worker): &(usize, &Worker)| (worker.unanswered() > 0, worker.load, Reverse(worker.last_sent));
        workers.filter(|worker| wants(&worker)).min_by_key(key).map(|(index, _)| index)
    }

    /// Sends a worker the next calls; false if it cannot take any now.
    fn send_some(&mut self, index: usize) -> bool {
        let workers = self.workers.iter().filter(|worker| worker.takes_calls()).count().max(1);
        let worker = &mut self.workers[index];
        let Ok(room) = worker.link.room() else {
            self.misbehaved(index);
            return true;
        };
        let mut most = (self.queue.len() / (SHARES * workers)).max(1);
        most = most.min((self.settings.max_tasks - worker.done - worker.unanswered()) as usize);
        if self.settings.prefetch == 0 {
            most = 1;
        }
        let (mut time, mut sent) = (SLICE_NANOSECONDS, 0);
        let mut entries = mem::take(&mut self.buffer);
        entries.clear();
        let mut letter = Letter { entries, room: room.saturating_sub(NOTIFIES), unannounced: 0 };
        let mut failed = None;
        let at = now();
        while most > 0 {
            let Some(run) = self.queue.front() else { break };
            let estimate = run.chunk.function.estimate();
            let cost = estimate.unwrap_or(SLICE_NANOSECONDS);
            if sent > 0 && (estimate.is_none() || cost > time) {
                break;
            }
            let (function, timeout) = (&run.chunk.function, run.chunk.terms.timeout);
            let told = worker.function.as_ref();
            let (start, is_new) =
                (letter.entries.len(), !told.is_some_and(|told| Arc::ptr_eq(&told.0, function) && told.1 == timeout));
            if is_new {
                let limit = timeout.map_or(0, nanoseconds);
                let bytes = [&limit.to_le_bytes(), function.key.as_bytes()].concat();
                packed::append_bytes(&mut letter.entries, Kind::Function, &bytes);
                worker.function = Some((Arc::clone(function), timeout));
            }
            let count = match run.cargo() {
                Cargo::Inline => {
                    let affordable = u32::try_from((time / cost).max(1).min(most as u64)).unwrap_or(u32::MAX);
                    run.fitting(letter.left(), if estimate.is_none() { 1 } else { affordable })
                }
                // What has handles is sent to a worker that begins it at once.
                Cargo::Handles if sent > 0 || !worker.sent.is_empty() => 0,
                _ if letter.left() < HEADER || worker.messages >= MESSAGES => 0,
                cargo => match send_message(&*worker.link, run, self.hosts.as_deref()) {
                    Ok(()) => {
                        worker.messages += 1;
                        if cargo == Cargo::Handles {
                            // Nothing goes with it.
                            most = 1;
                        }
                        1
                    }
                    Err(SendFailure::Lost) => {
                        // The end of the worker will be noticed.
                        worker.leaving = true;
                        0
                    }
                    Err(SendFailure::Full) => {
                        // An idle worker reads all of it, so this will be tried again soon.
                        self.clogged = true;
                        0
                    }
                    Err(SendFailure::Refused(why)) => {
                        failed = self.queue.take_front(1).map(|run| (run, TaskError::NotSent(why)));
                        0
                    }
                },
            };
            let run = if count > 0 { self.queue.take_front(count) } else { None };
            let Some(run) = run else {
                if is_new {
                    letter.entries.truncate(start);
                    worker.function = None;
                }
                break;
            };
            letter.add(&run, cost);
            worker.next_number += count;
            let spent = cost.saturating_mul(u64::from(count));
            worker.load += spent;
            worker.sent.push_back(Sent { run, cost, at });
            time = time.saturating_sub(spent);
            most -= count as usize;
            sent += count;
        }
        letter.announce();
        let mut intact = Ok(());
        if sent > 0 {
            intact = worker.link.write(&letter.entries);
            self.sends += 1;
            worker.last_sent = self.sends;
            if self.looking == 0 {
                // Nothing of this can have been answered yet.
                worker.link.ask_for_wake();
            }
            worker.link.publish();
        }
        self.buffer = letter.entries;
        if intact.is_err() {
            self.misbehaved(index);
        }
        if let Some((run, error)) = failed {
            self.fail(run, &error);
            return true;
        }
        // An idle worker whose ring has no room is about to take out what was taken back from it,
        // and wakes nobody for that.
        self.clogged |= sent == 0 && self.workers[index].is_idle();
        sent > 0 || self.workers[index].leaving
    }

    /// Takes calls back from a worker that has more than it can do while another one is idle.
    fn rebalance(&mut self) {
        while self.workers.iter().any(Worker::is_idle) {
            let now = Instant::now();
            let candidates = self.workers.iter_mut().enumerate().filter_map(|(index, worker)| {
                let (unbegun, share) = worker.spare(now)?;
                Some((unbegun, share, index))
            });
            let Some((_, share, index)) = candidates.max() else { return };
            let keep = self.workers[index].unbegun().saturating_sub(share);
            self.take_back(index, keep);
            if self.queue.is_empty() {
                return;
            }
            while self.queue.front().is_some() {
                let Some(index) = self.workers.iter().position(Worker::is_idle) else { return };
                if !self.send_some(index) {
                    return;
                }
            }
        }
    }

    /// Takes the calls back that a worker has not begun, but for the first `keep` of them.
    pub(super) fn take_back(&mut self, index: usize, keep: u32) {
        if self.workers[index].sent.back().is_some_and(|sent| !sent.run.can_be_sent()) {
            // It is the only one, and its handles are gone with it.
            return;
        }
        let taken_back = self.workers[index].take_back(keep);
        self.took_back(index, taken_back);
    }

    /// Puts calls back into the queue that a worker will not begin.
    pub(super) fn took_back(&mut self, index: usize, taken_back: Result<Vec<Run>, Broken>) {
        match taken_back {
            Ok(runs) => {
                runs.into_iter().for_each(|run| self.queue.push_front(run));
                self.unfence(index);
            }
            Err(Broken) => self.misbehaved(index),
        }
    }

    /// Kills a worker if it runs a task that was cancelled, after everything else was taken back.
    pub(super) fn kill_cancelled(&mut self, index: usize) {
        let has_cancelled = |state: &Self| {
            let worker = &state.workers[index];
            let mut runs = worker.sent.iter().map(|sent| &sent.run);
            !worker.link.is_taking_back()
                && runs.any(|run| matches!(run.chunk.sink, Sink::Task(_)) && run.is_forgotten())
        };
        if has_cancelled(self) {
            self.take_back(index, 0);
        }
        if has_cancelled(self) {
            // It is running, and nothing else of this worker is.
            self.condemn(index, Verdict::Cancelled);
        }
    }

    /// Has a worker end when it has done what it has begun.
    pub(super) fn dismiss(&mut self, index: usize, why: &'static str) {
        let worker = &mut self.workers[index];
        if worker.dismissed.is_some() || worker.condemned.is_some() {
            return;
        }
        worker.leaving = true;
        worker.expected_to_end = Some(why);
        if worker.ready && worker.unanswered() > 0 {
            self.take_back(index, 0);
        }
        self.end_if_done(index);
    }

    /// Tells a worker that is leaving and has done everything to end.
    pub(super) fn end_if_done(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if !worker.leaving || worker.dismissed.is_some() || !worker.sent.is_empty() || worker.condemned.is_some() {
            return;
        }
        worker.dismissed = Some(Instant::now());
        self.wants_supervisor = true;
        if worker.silent {
            return worker.link.kill();
        }
        if worker.link.write(&packed::EXIT).is_ok() {
            worker.link.publish();
        } else {
            worker.link.kill();
        }
    }

    /// A thread begins to look for results; false if another one does.
    pub(super) fn begin_looking(&mut self) -> bool {
        if self.looking > 0 {
            return false;
        }
        self.looking += 1;
        for worker in &mut self.workers {
            worker.link.forgo_wake();
        }
        true
    }

    pub(super) fn end_looking(&mut self) {
        self.looking -= 1;
        self.receive_all();
    }

    /// Has the supervisor wake up in time for what is under way now.
    fn ask_for_supervisor(&mut self) {
        if !self.wants_supervisor {
            let due = self.due(Instant::now());
            self.wants_supervisor =
                due.is_some_and(|due| self.supervisor_wakes.is_none_or(|wakes| wakes > due + Duration::from_millis(1)));
        }
    }
}

impl Worker {
    /// How many calls it has not begun.
    pub(super) fn unbegun(&self) -> u32 {
        self.fence.unwrap_or(self.next_number).saturating_sub(self.link.claimed().next.max(self.answered))
    }

    /// Notes what the worker is running, and returns since when.
    pub(super) fn observe(&mut self, now: Instant) -> Option<Instant> {
        let next = self.link.claimed().next;
        if next <= self.answered || self.sent.is_empty() {
            self.running = None;
            return None;
        }
        match self.running {
            Some((number, since)) if number == next => Some(since),
            _ => {
                self.running = Some((next, now));
                Some(now)
            }
        }
    }

    /// How long it takes to do what is worth taking back, and how many calls that are.
    fn spare(&mut self, now: Instant) -> Option<(u64, u32)> {
        if self.condemned.is_some() || self.silent || self.link.is_taking_back() {
            return None;
        }
        // It keeps one to run: it may be about to begin it.
        let unbegun = self.unbegun().min(self.unanswered().saturating_sub(1));
        if unbegun == 0 {
            return None;
        }
        let stuck = self.observe(now).map_or(0, |since| nanoseconds(now - since));
        let load = self.load / u64::from(self.unanswered().max(1)) * u64::from(unbegun);
        let share = if stuck >= WORTH_TAKING_BACK { unbegun } else { unbegun.div_ceil(2) };
        (load.max(stuck) >= WORTH_TAKING_BACK).then_some((load.max(stuck), share))
    }

    /// Takes calls back, if the link can say at once which ones the worker has not begun.
    fn take_back(&mut self, keep: u32) -> Result<Vec<Run>, Broken> {
        let end = self.fence.unwrap_or(self.next_number);
        match self.link.take_back(self.answered..end, self.fence.is_some(), keep)? {
            Some(fence) => self.cut_off(fence),
            None => Ok(Vec::new()),
        }
    }

    /// Takes back the calls from `fence` on, last ones first: the link says that none will begin.
    pub(super) fn cut_off(&mut self, fence: u32) -> Result<Vec<Run>, Broken> {
        let end = self.fence.unwrap_or(self.next_number);
        if fence < self.answered || fence > end {
            return Err(Broken);
        }
        self.fence = Some(fence);
        let mut surplus = end - fence;
        let mut runs = Vec::new();
        while surplus > 0 {
            let Some(mut sent) = self.sent.pop_back() else { break };
            let length = sent.run.len();
            if length > surplus {
                let kept = sent.run.split_off_front(length - surplus);
                self.sent.push_back(Sent { run: kept, ..sent });
            }
            surplus -= sent.run.len();
            self.load = self.load.saturating_sub(sent.cost * u64::from(sent.run.len()));
            self.messages -= sent.run.messages(sent.run.len()).min(self.messages);
            runs.push(sent.run);
        }
        Ok(runs)
    }
}

/// What a worker is sent at once.
struct Letter {
    entries: Vec<u8>,
    /// How many bytes of calls and functions there may be.
    room: usize,
    /// How many nanoseconds of calls stand behind the last place where the worker wakes the pool.
    unannounced: u64,
}

impl Letter {
    /// For how many bytes there is room.
    fn left(&self) -> usize {
        self.room.saturating_sub(self.entries.len())
    }

    /// Adds calls, and where the worker is to wake the pool.
    fn add(&mut self, run: &Run, cost: u64) {
        let (mut from, count) = (0, run.len());
        while from < count {
            let step = (WAKES_AFTER.saturating_sub(self.unannounced) / cost).clamp(1, u64::from(count - from)) as u32;
            self.entries.extend_from_slice(run.entries(from..from + step));
            from += step;
            self.unannounced += cost.saturating_mul(u64::from(step));
            if self.unannounced.saturating_add(cost) > WAKES_AFTER {
                self.announce();
            }
        }
    }

    /// Has the worker wake the pool when it has come so far.
    fn announce(&mut self) {
        if mem::take(&mut self.unannounced) > 0 {
            self.entries.extend_from_slice(&packed::NOTIFY);
        }
    }
}

/// Sends the arguments of the first call of a run.
fn send_message(link: &dyn Link, run: &Run, hosts: Option<&dyn Hosts>) -> Result<(), SendFailure> {
    let Some(message) = run.take_message() else {
        return Err(SendFailure::Refused("its handles were sent already".to_owned()));
    };
    let kept = Arc::clone(&message);
    if let Some(hosts) = hosts {
        // Whichever host it comes to.
        hosts.accepts(&message).map_err(SendFailure::Refused)?;
    }
    link.send(message).inspect_err(|_| run.put_back(kept))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
