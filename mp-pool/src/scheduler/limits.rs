//! What happens because time passes: limits of time and memory, idle workers, and when to look.

use std::time::{Duration, Instant};

use super::dispatch::WAKES_AFTER;
use super::state::{Phase, State, Verdict, Worker};
use super::supervisor::{FIRST_PAUSE, MOST_FAILURES, MOST_INITIALIZER_FAILURES};
use crate::error::TaskError;

/// How often the supervisor looks for results that do not wake it.
const TICK: Duration = Duration::from_millis(2);

/// How often the supervisor reads how much memory a worker uses.
const MEMORY_TICK: Duration = Duration::from_millis(20);

/// How often the supervisor looks at a worker that has closed its connection and still runs.
const SILENT_TICK: Duration = Duration::from_millis(10);

/// How long a worker has to exit after it was told to.
const GRACE: Duration = Duration::from_secs(1);

impl State {
    /// When it is time to look again, if nothing happens before.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let is_any_idle = self.workers.iter().any(Worker::is_idle);
        let watches_memory = self.settings.memory_limit.is_some();
        let mut due = self.retry.filter(|_| self.missing() > 0);
        let mut by = |instant: Option<Instant>| due = [due, instant].into_iter().flatten().min();
        if self.clogged {
            by(Some(now + TICK));
        }
        for worker in &self.workers {
            if worker.condemned.is_some() {
                continue;
            }
            if let Some(dismissed) = worker.dismissed {
                by(dismissed.checked_add(GRACE));
                continue;
            }
            if worker.silent {
                by(Some(now + SILENT_TICK));
            }
            let Some(first) = worker.sent.front() else {
                let idle_timeout = self.settings.idle_timeout.filter(|_| worker.ready && !worker.leaving);
                by(idle_timeout.and_then(|timeout| worker.idle_since.checked_add(timeout)));
                continue;
            };
            if worker.unanswered() > 1 && (is_any_idle || first.cost < WAKES_AFTER) {
                by(Some(now + TICK));
            }
            if watches_memory {
                by(Some(now + MEMORY_TICK));
            }
            if let Some(timeout) = first.run.chunk.terms.timeout {
                let pause = (timeout / 8).max(TICK);
                let end = worker.running.and_then(|(_, since)| since.checked_add(timeout));
                by([end, now.checked_add(pause)].into_iter().flatten().min());
            }
        }
        due
    }

    /// Does what is due.
    pub(super) fn check(&mut self, now: Instant) {
        for index in 0..self.workers.len() {
            self.check_worker(index, now);
        }
        self.recycle();
    }

    fn check_worker(&mut self, index: usize, now: Instant) {
        let (memory_limit, idle_timeout) = (self.settings.memory_limit, self.settings.idle_timeout);
        let worker = &mut self.workers[index];
        if worker.condemned.is_some() {
            return;
        }
        if let Some(dismissed) = worker.dismissed {
            if now.saturating_duration_since(dismissed) >= GRACE {
                worker.dismissed = Some(now);
                worker.link.kill();
            }
            return;
        }
        let Some(since) = worker.observe(now) else {
            let is_tired = worker.is_idle() && idle_timeout.is_some_and(|timeout| now >= worker.idle_since + timeout);
            if is_tired && self.queue.is_empty() {
                self.dismiss(index, "it had nothing to do");
            }
            return;
        };
        let limit = worker.sent.front().and_then(|first| first.run.chunk.terms.timeout);
        if let Some(limit) = limit.filter(|limit| now.saturating_duration_since(since) >= *limit) {
            return self.condemn_running(index, Verdict::TimedOut(limit));
        }
        if let Some(limit) = memory_limit {
            if let Some(used) = worker.link.resident().filter(|used| *used > limit) {
                self.condemn_running(index, Verdict::OutOfMemory { used, limit });
            }
        }
    }

    /// Kills a worker for the call that it is running, if it still runs that when nothing else can
    /// begin.
    fn condemn_running(&mut self, index: usize, verdict: Verdict) {
        let running = self.workers[index].running;
        self.take_back(index, 0);
        let worker = &mut self.workers[index];
        if worker.link.is_taking_back() {
            // This is tried again when it has said what it began.
            return;
        }
        if worker.condemned.is_none() && worker.running == running && worker.link.claimed().next == worker.answered + 1
        {
            if worker.link.has_results() {
                // It may be the result of this one.
                return;
            }
            self.condemn(index, verdict);
        }
    }

    /// Replaces workers that have run as many tasks as they may, or have too much memory.
    fn recycle(&mut self) {
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            if worker.leaving {
                self.end_if_done(index);
                continue;
            }
            let is_used_up = worker.done >= self.settings.max_tasks && worker.unanswered() == 0;
            // Its memory is read again only after it has run something.
            let has_worked = std::mem::replace(&mut worker.looked_at, worker.done) != worker.done;
            let limit = self.settings.recycle_above.filter(|_| has_worked && !is_used_up);
            let is_too_large = limit.is_some_and(|limit| worker.link.resident().is_some_and(|used| used > limit));
            if is_used_up || is_too_large {
                self.stats.recycled += 1;
                self.dismiss(index, if is_used_up { "it had run its tasks" } else { "it had grown too large" });
            }
        }
    }

    /// Notes that a worker could not be started, or ended before it had done anything.
    pub(super) fn failed(&mut self) {
        // Workers that fail together fail once.
        if self.retry.is_some() {
            return;
        }
        self.failures += 1;
        let pause = FIRST_PAUSE * 2u32.pow(self.failures.min(6));
        self.retry = Some(Instant::now() + pause);
    }

    /// Fails the calls that wait for a worker if there is none and none can be started.
    pub(super) fn give_up(&mut self) {
        let most = match self.failure {
            TaskError::Initializer(_) => MOST_INITIALIZER_FAILURES,
            _ => MOST_FAILURES,
        };
        if self.failures < most || self.phase >= Phase::Terminated || self.workers.iter().any(|worker| !worker.leaving)
        {
            // One of them may become ready yet.
            return;
        }
        self.gave_up = true;
        self.retry = None;
        let error = self.failure.clone();
        self.fail_queue(&error);
    }
}
