//! Delivers results to their sinks, and decides what happens to the calls of a dead worker.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use mp_core::raw::Outcome;

use super::state::{Phase, Sent, State, Verdict, Worker};
use crate::batch::{Delivery, Ends};
use crate::board::{Broken, Claimed, NO_END};
use crate::chunk::Sink;
use crate::error::TaskError;
use crate::later::Later;
use crate::link::{Death, End, News};
use crate::packed::{Header, Kind};
use crate::report::{Ran, Recorder, WorkerEnd, now};

/// How many packets of a worker are taken in one turn.
const PACKETS: usize = 64;

/// How many outcomes of one worker may be here before the entries that announce them are read.
const MOST_UNANNOUNCED: usize = 4096;

impl State {
    /// Takes in what a worker has said over the connection.
    pub(super) fn listen(&mut self, index: usize) {
        for _ in 0..PACKETS {
            let worker = &mut self.workers[index];
            if worker.silent {
                return;
            }
            match worker.link.hear() {
                Ok(News::Nothing) => return,
                Ok(News::Ready) => {
                    worker.ready = true;
                    worker.idle_since = Instant::now();
                    self.dispatch();
                    // While there were failures, workers are started one after another.
                    self.wants_supervisor |= self.failures > 0;
                }
                Ok(News::NotReady(why)) => {
                    (worker.leaving, worker.expected_to_end) = (true, Some("its initializer failed"));
                    worker.dismissed = Some(Instant::now());
                    self.failure = TaskError::Initializer(why);
                    self.failed();
                }
                Ok(News::Silent) => {
                    worker.silent = true;
                    if worker.dismissed.is_some() {
                        // It closes its link on the way out, and may have other things to clear up.
                        return;
                    }
                    if worker.ready {
                        // It is dying, or has closed what is not its own and can finish what it
                        // runs.
                        worker.leaving = true;
                        self.take_back(index, 0);
                    } else {
                        worker.dismissed = Some(Instant::now());
                    }
                    return;
                }
                Ok(News::TookBack(fence)) => {
                    if worker.link.has_results() {
                        // They are older than that.
                        self.read(index);
                    }
                    let worker = &mut self.workers[index];
                    let taken_back = fence.map_or(Ok(Vec::new()), |fence| worker.cut_off(fence));
                    self.took_back(index, taken_back);
                    self.kill_cancelled(index);
                    // What waits for this may be due.
                    self.wants_supervisor = true;
                    self.dispatch();
                }
                // An honest worker announces each right after it has sent it.
                Ok(News::Outcome(outcome)) if worker.unannounced.len() < MOST_UNANNOUNCED => {
                    worker.unannounced.push_back(outcome);
                }
                Ok(News::Outcome(_)) | Err(Broken) => return self.misbehaved(index),
            }
        }
        self.wants_supervisor |= self.workers[index].link.has_news();
    }

    /// Takes in what workers of other hosts have said, and how they ended.
    pub(super) fn listen_to_nodes(&mut self) {
        let mut index = 0;
        while let Some(worker) = self.workers.get(index) {
            if !worker.link.has_news() {
                index += 1;
                continue;
            }
            self.listen(index);
            if self.workers[index].link.has_ended() {
                self.bury(index);
            } else {
                index += 1;
            }
        }
    }

    /// Takes the results that are there, and sends workers that have done with theirs more.
    pub(super) fn receive_all(&mut self) {
        let mut some = false;
        for index in 0..self.workers.len() {
            some |= self.receive(index);
        }
        if some {
            self.dispatch();
        }
    }

    /// Takes a worker's results; false if there are none. If no thread looks for more, the worker
    /// will wake the supervisor.
    fn receive(&mut self, index: usize) -> bool {
        let mut some = false;
        // A worker that writes faster than this reads is looked at again in the next turn.
        for _ in 0..2 {
            let worker = &mut self.workers[index];
            if worker.condemned.is_some() {
                return some;
            }
            if worker.link.has_results() {
                some = true;
                self.read(index);
            }
            let worker = &mut self.workers[index];
            if self.looking > 0 || worker.sent.is_empty() || !worker.link.ask_for_wake() {
                break;
            }
        }
        some
    }

    fn read(&mut self, index: usize) {
        let mut entries = mem::take(&mut self.buffer);
        entries.clear();
        let worker = &mut self.workers[index];
        let intact = worker.link.read(&mut entries).and_then(|()| self.deliver(index, &entries));
        self.buffer = entries;
        if intact.is_err() {
            self.misbehaved(index);
        } else {
            self.unfence(index);
        }
    }

    /// Gives results to their sinks.
    fn deliver(&mut self, index: usize, entries: &[u8]) -> Result<(), Broken> {
        let (worker, recorder) = (&mut self.workers[index], &mut self.recorder);
        let claimed = worker.link.claimed();
        let before = worker.answered;
        let mut at = 0;
        let mut intact = Ok(());
        while at < entries.len() && intact.is_ok() {
            let start = at;
            let most = worker.sent.front().map_or(0, |sent| sent.run.len());
            let (mut count, mut failed) = (0, 0);
            let mut outcomes = VecDeque::new();
            while at < entries.len() {
                let Some(header) = Header::at(&entries[at..]) else {
                    intact = Err(Broken);
                    break;
                };
                if let Kind::Time | Kind::Filler = header.kind {
                    if header.kind == Kind::Time {
                        worker.note_time(&entries[header.bytes(at)], count, recorder);
                    }
                    at += header.whole();
                    continue;
                }
                if count == most {
                    break;
                }
                match worker.check_answer(header, claimed, &mut outcomes) {
                    Ok(true) => {}
                    Ok(false) => {
                        failed += 1;
                        worker.untimed_failed += 1;
                    }
                    Err(Broken) => {
                        intact = Err(Broken);
                        break;
                    }
                }
                at += header.whole();
                worker.answered += 1;
                worker.untimed += 1;
                count += 1;
            }
            if count > 0 {
                let later = worker.hand_over(count, entries[start..at].to_vec(), outcomes);
                if let Some(function) = &worker.answered_function {
                    recorder.answered(worker.place, function, u64::from(count), failed);
                }
                self.later.extend(later);
            } else if intact.is_ok() && at < entries.len() {
                // There is nothing that could be answered.
                intact = Err(Broken);
            }
        }
        let answered = worker.answered - before;
        self.stats.done += u64::from(answered);
        if answered > 0 {
            worker.proven = true;
            self.failures = 0;
            worker.done += answered;
            worker.running = None;
            if worker.sent.is_empty() {
                worker.idle_since = Instant::now();
                // Another thread than the supervisor may have read this result, and only the
                // supervisor replaces and ends workers.
                let (settings, is_used_up) = (&self.settings, worker.done >= self.settings.max_tasks);
                let is_watched = settings.recycle_above.is_some() || settings.idle_timeout.is_some();
                self.wants_supervisor |= is_used_up || is_watched || worker.leaving || self.phase > Phase::Open;
            }
        }
        intact
    }

    /// Sends a worker that has done what it kept more from now on.
    pub(super) fn unfence(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let Some(fence) = worker.fence.filter(|fence| *fence == worker.answered) else { return };
        let (from, to) = (Claimed { next: fence, end: fence }, Claimed { next: worker.next_number, end: NO_END });
        if worker.link.change_claim(from, to) {
            worker.answered = worker.next_number;
            worker.fence = None;
            // It may sleep at the fence, with a ring that is full of what was taken back.
            worker.link.publish();
            worker.idle_since = Instant::now();
        } else {
            self.misbehaved(index);
        }
    }

    /// Takes a worker that has ended out of the pool.
    pub(super) fn bury(&mut self, index: usize) {
        self.listen(index);
        // Its last results: all that there are, and it writes no more.
        if !matches!(self.workers[index].condemned, Some(Verdict::Misbehaved)) && self.workers[index].link.has_results()
        {
            self.read(index);
        }
        let worker = self.workers.remove(index);
        let (claimed, task) = (worker.link.claimed(), worker.running_task());
        let Worker {
            mut link,
            mut sent,
            answered,
            ready,
            proven,
            condemned,
            expected_to_end,
            silent,
            dismissed,
            place,
            number,
            started,
            ..
        } = worker;
        let (pid, name) = (link.pid(), link.name());
        let Some(Death { end, panic }) = link.death() else { return };
        drop(link);
        // Who breaks the protocol may have written over this word as well.
        let was_running = claimed.next != answered || matches!(condemned, Some(Verdict::Misbehaved));
        let is_over = self.phase >= Phase::Terminated;
        let is_failure = !is_over && (was_running || expected_to_end.is_none());
        let reason = match (&condemned, &panic, expected_to_end) {
            _ if is_over => "the pool was terminated".to_owned(),
            (Some(verdict), ..) => verdict.to_string(),
            (None, Some(panic), _) => format!("panicked: {}", panic.message.lines().next().unwrap_or_default()),
            (None, None, Some(why)) if !was_running => why.to_owned(),
            // The pool has killed it.
            (None, None, None) if silent && dismissed.is_some() => "had closed its connection to the pool".to_owned(),
            _ => end.to_string(),
        };
        let is_lost = matches!(end, End::Lost);
        if !was_running && !proven && expected_to_end.is_none() && !is_lost && self.phase < Phase::Terminated {
            let why = match &end {
                End::NotStarted(why) => why.clone(),
                end => format!("a worker {end} before it had done anything"),
            };
            if !self.settings.has_initializer() || ready {
                self.failure = TaskError::NoWorker(why);
            } else if !matches!(self.failure, TaskError::Initializer(_)) {
                self.failure = TaskError::Initializer(why);
            }
            self.failed();
        }
        if let Some(first) = sent.front_mut().filter(|_| was_running) {
            let start = worker.busy_until.max(first.at);
            let mut running = first.run.split_off_front(1);
            let (function, index) = (&running.chunk.function, running.index(0));
            let (ran, worker) = (function.name, name.clone());
            let fate = Some(reason.as_str());
            self.recorder.answered(place, function, 1, 1);
            self.recorder.ran(&Ran { place, number, function, calls: 1, failed: 1, index, start, end: now(), fate });
            running.attempts += 1;
            let retries = running.chunk.terms.retries;
            let can_be_run_again = running.attempts <= retries && running.can_be_sent();
            match (condemned, panic) {
                _ if self.phase >= Phase::Terminated => self.fail(running, &TaskError::PoolClosed),
                (Some(Verdict::TimedOut(limit)), _) => {
                    self.stats.timed_out += 1;
                    self.fail(running, &TaskError::TimedOut { limit, worker, function: ran });
                }
                (Some(Verdict::OutOfMemory { used, limit }), _) => {
                    self.stats.out_of_memory += 1;
                    self.fail(running, &TaskError::OutOfMemory { used, limit, worker, function: ran });
                }
                (Some(Verdict::Cancelled), _) => self.fail(running, &TaskError::Cancelled),
                (Some(Verdict::Misbehaved), _) => self.fail(running, &TaskError::Misbehaved { worker, function: ran }),
                (None, Some(mut panic)) => {
                    ran.clone_into(&mut panic.function);
                    self.fail(running, &TaskError::Panicked(panic));
                }
                (None, None) => {
                    self.stats.crashed += u64::from(!is_lost);
                    if can_be_run_again {
                        self.queue.push_front(running);
                    } else {
                        let attempts = running.attempts;
                        self.fail(running, &end.error(attempts, worker, ran));
                    }
                }
            }
        }
        self.recorder.ended(place, started, WorkerEnd::new(number, pid, reason, is_failure, task));
        self.stats.lost += u64::from(is_lost);
        for Sent { mut run, .. } in sent.into_iter().rev().filter(|sent| sent.run.len() > 0) {
            // A lost worker may have begun any of them, and was not heard of any more.
            let can_begin = !is_lost || run.attempts < run.chunk.terms.retries;
            if self.phase >= Phase::Terminated {
                self.fail(run, &TaskError::PoolClosed);
            } else if run.can_be_sent() && can_begin {
                run.attempts += u32::from(is_lost);
                self.queue.push_front(run);
            } else {
                let (attempts, function) = (run.attempts + 1, run.chunk.function.name);
                self.fail(run, &end.error(attempts, name.clone(), function));
            }
        }
        self.dispatch();
    }
}

impl Worker {
    /// Checks that the next call can have this answer, and takes what goes with it. Returns whether
    /// the call has returned.
    #[inline]
    fn check_answer(
        &mut self,
        header: Header,
        claimed: Claimed,
        outcomes: &mut VecDeque<Result<Outcome, TaskError>>,
    ) -> Result<bool, Broken> {
        if self.answered >= claimed.next {
            return Err(Broken);
        }
        match header.kind {
            Kind::Value => Ok(true),
            Kind::Outcome | Kind::Unreadable => Ok(false),
            Kind::Message => {
                let outcome = match self.announced()? {
                    Ok((of, outcome)) if of == self.answered => Ok(outcome),
                    Ok(_) => return Err(Broken),
                    Err(error) => Err(error),
                };
                let returned = matches!(outcome, Ok(Outcome::Returned(_)));
                outcomes.push_back(outcome);
                Ok(returned)
            }
            _ => Err(Broken),
        }
    }

    /// The outcome that an entry announces.
    fn announced(&mut self) -> Result<Result<(u32, Outcome), TaskError>, Broken> {
        match self.unannounced.pop_front().map_or_else(|| self.link.hear(), |outcome| Ok(News::Outcome(outcome)))? {
            News::Outcome(outcome) => Ok(outcome),
            _ => Err(Broken),
        }
    }

    /// Notes how long the calls took that were answered since the last time. The last `count` of
    /// them were not handed over yet.
    fn note_time(&mut self, entry: &[u8], count: u32, recorder: &mut Recorder) {
        let (calls, failed) = (mem::take(&mut self.untimed), mem::take(&mut self.untimed_failed));
        let first = self.sent.front().filter(|_| count > 0).map(|sent| &sent.run);
        let index = first.map_or(self.answered_index, |run| run.index(count - 1));
        let function = first.map(|run| &run.chunk.function).or(self.answered_function.as_ref());
        let Some(function) = function.filter(|_| calls > 0) else { return };
        let [took, end] = [0, size_of::<u64>()].map(|at| {
            entry.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
        });
        function.note(calls, took);
        // The worker's word, as far as it is possible.
        let end = end.wrapping_add_signed(self.link.clock_offset()).min(now()).max(self.busy_until);
        let start = end.saturating_sub(took).max(self.busy_until);
        self.busy_until = end;
        let (place, number) = (self.place, self.number);
        recorder.ran(&Ran { place, number, function, calls, failed, index, start, end, fate: None });
    }

    /// Gives answers to the first calls that the worker has, which belong together.
    fn hand_over(
        &mut self,
        count: u32,
        entries: Vec<u8>,
        outcomes: VecDeque<Result<Outcome, TaskError>>,
    ) -> Option<Later> {
        let sent = self.sent.front_mut()?;
        self.load = self.load.saturating_sub(sent.cost * u64::from(count));
        self.messages -= sent.run.messages(count).min(self.messages);
        let run = if sent.run.len() == count { self.sent.pop_front()?.run } else { sent.run.split_off_front(count) };
        if !self.answered_function.as_ref().is_some_and(|function| Arc::ptr_eq(function, &run.chunk.function)) {
            self.answered_function = Some(Arc::clone(&run.chunk.function));
        }
        self.answered_index = run.index(run.len().saturating_sub(1));
        let ends = Ends::Entries(entries, outcomes);
        match &run.chunk.sink {
            Sink::Task(slot) => slot.finish(ends),
            Sink::Batch(batch, first) => {
                batch.deliver(Delivery { first: first + run.items.start as usize, count: count as usize, ends })
            }
        }
    }
}
