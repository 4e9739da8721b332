//! What a pool remembers of its work, in bounded memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{FunctionReport, Lives, Report, SlowTask, TaskName, WorkerEnd, WorkerReport};
use crate::chunk::Function;
use crate::stats::Stats;

/// How many bars of the timeline are kept. Beyond that, short ones are joined with their
/// neighbours.
const MOST_BARS: usize = 20_000;

/// How many of the slowest tasks are kept.
const SLOWEST: usize = 20;

/// How many workers that have ended are kept, the last ones.
const MOST_ENDS: usize = 1_000;

/// The monotonic clock, in nanoseconds. It is the same in all processes.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Calls of one worker that followed each other.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) place: usize,
    /// Which function; `None` if they are of several.
    pub(super) function: Option<usize>,
    /// In nanoseconds since the pool started, as `end`.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) calls: u64,
    pub(super) failed: u64,
    /// The index of the first call.
    pub(super) index: u64,
}

/// Calls of which a worker has said how long they took.
pub(crate) struct Ran<'a> {
    pub(crate) place: usize,
    pub(crate) number: usize,
    pub(crate) function: &'a Function,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// The index of the last one.
    pub(crate) index: u64,
    /// By the monotonic clock.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// How the call failed, if it ended its worker.
    pub(crate) fate: Option<&'a str>,
}

/// A worker that there is.
pub(crate) struct Alive {
    pub(crate) place: usize,
    pub(crate) number: usize,
    /// By the monotonic clock.
    pub(crate) started: u64,
    pub(crate) running: Option<TaskName>,
}

pub(crate) struct Recorder {
    began: u64,
    functions: Vec<FunctionReport>,
    workers: Vec<WorkerReport>,
    /// The bar of each place that was added last.
    last_bars: Vec<Option<usize>>,
    bars: Vec<Bar>,
    /// Bars that are shorter and nearer to each other than this are joined.
    grain: u64,
    slowest: BinaryHeap<Reverse<SlowTask>>,
    ends: VecDeque<WorkerEnd>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            began: now(),
            functions: Vec::new(),
            workers: Vec::new(),
            last_bars: Vec::new(),
            bars: Vec::new(),
            grain: 0,
            slowest: BinaryHeap::new(),
            ends: VecDeque::new(),
        }
    }

    fn since_began(&self, instant: u64) -> Duration {
        Duration::from_nanos(instant.saturating_sub(self.began))
    }

    fn worker(&mut self, place: usize) -> &mut WorkerReport {
        while self.workers.len() <= place {
            self.workers.push(WorkerReport::default());
            self.last_bars.push(None);
        }
        &mut self.workers[place]
    }

    fn function(&mut self, function: &Function) -> &mut FunctionReport {
        while self.functions.len() <= function.id {
            self.functions.push(FunctionReport::default());
        }
        let report = &mut self.functions[function.id];
        report.name = function.name;
        report
    }

    /// Notes that calls have ended.
    pub(crate) fn answered(&mut self, place: usize, function: &Function, calls: u64, failed: u64) {
        self.worker(place).tasks += calls;
        let function = self.function(function);
        function.tasks += calls;
        function.failed += failed;
    }

    /// Notes how long calls took.
    pub(crate) fn ran(&mut self, ran: &Ran<'_>) {
        let took = Duration::from_nanos(ran.end.saturating_sub(ran.start));
        self.worker(ran.place).busy += took;
        let function = self.function(ran.function);
        function.total += took;
        // Of many together only the mean is known.
        let each = took / u32::try_from(ran.calls.max(1)).unwrap_or(u32::MAX);
        function.longest = function.longest.max(each);
        if self.slowest.len() < SLOWEST || self.slowest.peek().is_some_and(|slowest| slowest.0.took < each) {
            let task = TaskName { function: ran.function.name, index: ran.index };
            let fate = ran.fate.map(str::to_owned);
            self.slowest.push(Reverse(SlowTask { took: each, task, worker: ran.number, fate }));
            if self.slowest.len() > SLOWEST {
                self.slowest.pop();
            }
        }
        let (start, end) = (ran.start.saturating_sub(self.began), ran.end.saturating_sub(self.began));
        self.add(Bar {
            place: ran.place,
            function: Some(ran.function.id),
            start,
            end,
            calls: ran.calls,
            failed: ran.failed,
            index: (ran.index + 1).saturating_sub(ran.calls),
        });
    }

    fn add(&mut self, bar: Bar) {
        join(&mut self.bars, &mut self.last_bars, self.grain, bar);
        let elapsed = now().saturating_sub(self.began);
        while self.bars.len() >= MOST_BARS {
            if self.grain > elapsed {
                // As few as there can be: there are thousands of workers.
                self.bars.truncate(MOST_BARS - 1);
                break;
            }
            self.grain = (2 * self.grain).max(1_000);
            coarsen(&mut self.bars, &mut self.last_bars, self.grain);
        }
    }

    /// Notes that a worker has started.
    pub(crate) fn started(&mut self, place: usize) {
        self.worker(place).processes += 1;
    }

    /// Notes that a worker has ended, which started at this time by the monotonic clock.
    pub(crate) fn ended(&mut self, place: usize, started: u64, end: WorkerEnd) {
        let now = now();
        let (started, ended) = (self.since_began(started), self.since_began(now));
        self.worker(place).alive += ended.saturating_sub(started);
        if self.ends.len() >= MOST_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back(WorkerEnd { place, started, ended, ..end });
    }

    pub(crate) fn report(&self, stats: Stats, alive: Vec<Alive>) -> Report {
        let elapsed = self.since_began(now());
        let mut workers = self.workers.clone();
        let mut lives = Vec::new();
        for Alive { place, number, started, running } in alive {
            let started = self.since_began(started);
            lives.push((place, number, started));
            if let Some(worker) = workers.get_mut(place) {
                worker.alive += elapsed.saturating_sub(started);
                worker.running = running;
            }
        }
        let mut bars = self.bars.clone();
        // No picture shows more.
        let grain = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX) / 4_000;
        coarsen(&mut bars, &mut vec![None; self.last_bars.len()], grain);
        let mut slowest: Vec<_> = self.slowest.iter().map(|slowest| slowest.0.clone()).collect();
        slowest.sort_by(|a, b| b.cmp(a));
        let ends = self.ends.iter().cloned().collect();
        Report { elapsed, stats, workers, functions: self.functions.clone(), slowest, ends, lives: Lives(lives, bars) }
    }
}

/// Adds a bar, to the last one of its place if they are short and near each other.
fn join(bars: &mut Vec<Bar>, last: &mut [Option<usize>], grain: u64, bar: Bar) {
    let Some(place) = last.get_mut(bar.place) else { return };
    if let Some(before) = place.and_then(|last| bars.get_mut(last)) {
        let is_near = bar.start.saturating_sub(before.end) < grain;
        if is_near && bar.end.saturating_sub(bar.start) < grain && before.end.saturating_sub(before.start) < grain {
            before.end = before.end.max(bar.end);
            before.calls += bar.calls;
            before.failed += bar.failed;
            before.function = before.function.filter(|function| Some(*function) == bar.function);
            return;
        }
    }
    *place = Some(bars.len());
    bars.push(bar);
}

fn coarsen(bars: &mut Vec<Bar>, last: &mut [Option<usize>], grain: u64) {
    last.fill(None);
    let mut fewer = Vec::with_capacity(bars.len() / 2);
    bars.drain(..).for_each(|bar| join(&mut fewer, last, grain, bar));
    *bars = fewer;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(function: &Function, place: usize, start: u64, took: u64) -> Ran<'_> {
        Ran { place, number: 1, function, calls: 1, failed: 0, index: start, start, end: start + took, fate: None }
    }

    #[test]
    fn memory_is_bounded_and_sums_are_not_rounded() {
        let mut recorder = Recorder::new();
        let functions = [Function::new("one", "one", 0), Function::new("other", "other", 1)];
        let calls = 10 * MOST_BARS as u64;
        for call in 0..calls {
            let start = recorder.began + 1_000 * call;
            let (function, place) = (&functions[call as usize % 2], call as usize % 3);
            recorder.ran(&ran(function, place, start, 900));
            recorder.answered(place, function, 1, 0);
            assert!(recorder.bars.len() < MOST_BARS);
        }
        let report = recorder.report(Stats::default(), Vec::new());
        assert_eq!(report.workers.iter().map(|worker| worker.tasks).sum::<u64>(), calls);
        assert_eq!(report.functions.iter().map(|function| function.tasks).collect::<Vec<_>>(), [calls / 2; 2]);
        assert_eq!(report.functions[0].total, Duration::from_nanos(900 * calls / 2));
        assert_eq!(report.slowest.len(), SLOWEST);
        assert_eq!(recorder.bars.iter().map(|bar| bar.calls).sum::<u64>(), calls);
        assert!(recorder.bars.iter().any(|bar| bar.function.is_none()), "some are of both");
    }

    #[test]
    fn long_calls_keep_bars_of_their_own() {
        let mut recorder = Recorder::new();
        let (short, long) = (Function::new("short", "short", 0), Function::new("long", "long", 1));
        for call in 0..2 * MOST_BARS as u64 {
            recorder.ran(&ran(&short, 0, recorder.began + 1_000 * call, 900));
        }
        let start = recorder.began + 3_000 * MOST_BARS as u64;
        recorder.ran(&ran(&long, 0, start, 1_000_000_000));
        recorder.ran(&ran(&short, 0, start + 1_000_000_000, 900));
        let of_long: Vec<_> = recorder.bars.iter().filter(|bar| bar.function == Some(1)).collect();
        assert_eq!((of_long.len(), of_long[0].calls), (1, 1));
        let slowest = &recorder.report(Stats::default(), Vec::new()).slowest[0];
        assert_eq!((slowest.task.function, slowest.task.index), ("long", start));
    }

    #[test]
    fn times_from_a_hostile_worker_are_only_wrong() {
        let mut recorder = Recorder::new();
        let function = Function::new("f", "f", 0);
        for (start, end) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (0, 0)] {
            recorder.ran(&Ran { end, calls: u64::from(u32::MAX), index: u64::MAX - 1, ..ran(&function, 0, start, 0) });
        }
        let report = recorder.report(Stats::default(), Vec::new());
        assert!(report.to_string().contains("worker") && report.html().contains("<svg"));
    }
}
