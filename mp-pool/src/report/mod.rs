//! What a pool has done, as a table and as a picture.

mod html;
mod record;

use std::fmt;
use std::time::Duration;

use crate::stats::Stats;
use record::Bar;
pub use record::now;
pub(crate) use record::{Alive, Ran, Recorder};

/// What a pool has done so far: what [`Pool::report`](crate::Pool::report) returns.
///
/// Displayed, it is a table. [`html`](Self::html) adds a timeline.
///
/// A report takes bounded memory, however many tasks there were: the counts and sums are of all,
/// lists are of the slowest tasks and the last workers that ended, and in the timeline short tasks
/// that follow each other are drawn as one. The times are those that the workers measured. Of short
/// tasks, which are timed together, the mean is known.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_pool::Pool;
///
/// #[process_fn]
/// fn square(number: u64) -> u64 {
///     if number == 13 {
///         std::process::abort();
///     }
///     number * number
/// }
///
/// let pool = Pool::new(2)?;
/// for (_, result) in pool.imap_unordered::<square>(0..20) {
///     let _ = result;
/// }
/// let report = pool.report();
/// assert_eq!(report.functions[0].tasks, 20);
/// assert_eq!(report.ends[0].task.unwrap().index, 13);
/// println!("{report}");
/// let page = report.html(); // for std::fs::write
/// # assert!(page.contains("SIGABRT"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How long ago the pool was started.
    pub elapsed: Duration,
    /// The numbers of [`Pool::stats`](crate::Pool::stats).
    pub stats: Stats,
    /// The workers, by their places: a worker that is replaced and its successor are one here.
    pub workers: Vec<WorkerReport>,
    /// The functions that were run.
    pub functions: Vec<FunctionReport>,
    /// The slowest tasks, the slowest first, 20 at most.
    pub slowest: Vec<SlowTask>,
    /// The workers that have ended and why, the last 1,000.
    pub ends: Vec<WorkerEnd>,
    lives: Lives,
}

/// The workers that there are, as place, number and start, and the bars of the timeline.
#[derive(Clone, Debug)]
struct Lives(Vec<(usize, usize, Duration)>, Vec<Bar>);

/// What the workers in one place have done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WorkerReport {
    /// How many processes there were, one after another.
    pub processes: u64,
    /// How many tasks they ended. One that is run again counts each time.
    pub tasks: u64,
    /// How long they ran tasks.
    pub busy: Duration,
    /// How long they existed.
    pub alive: Duration,
    /// The task that runs now.
    pub running: Option<TaskName>,
}

impl WorkerReport {
    /// The part of its life that it spent in tasks, from 0 to 1.
    pub fn utilisation(&self) -> f64 {
        if self.alive.is_zero() { 0.0 } else { (self.busy.as_secs_f64() / self.alive.as_secs_f64()).min(1.0) }
    }
}

/// What was run of one function.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FunctionReport {
    /// Its name.
    pub name: &'static str,
    /// How many tasks have ended. One that is run again counts each time.
    pub tasks: u64,
    /// How many of them did not return: they panicked, crashed or were killed.
    pub failed: u64,
    /// How long all of them took together.
    pub total: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

/// Which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TaskName {
    /// The name of its function.
    pub function: &'static str,
    /// The index of its item in the map. Of a submitted task, how many tasks of the function were
    /// submitted before.
    pub index: u64,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.function, self.index)
    }
}

/// A task that took long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct SlowTask {
    /// How long it took.
    pub took: Duration,
    /// Which task it was.
    pub task: TaskName,
    /// The number of its worker.
    pub worker: usize,
    /// How its worker ended, if it ended with the task.
    pub fate: Option<String>,
}

/// A worker that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerEnd {
    /// Its number: workers are counted as they are started.
    pub number: usize,
    /// Its place among the workers, from 0.
    pub place: usize,
    /// Its process id.
    pub pid: u32,
    /// When it started, counted from the start of the pool.
    pub started: Duration,
    /// When it ended, counted from the start of the pool.
    pub ended: Duration,
    /// Why it ended.
    pub reason: String,
    /// It ended by itself, or was killed for what its task did.
    pub failed: bool,
    /// The task that ended with it.
    pub task: Option<TaskName>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        writeln!(f, "\n{:>6} {:>9} {:>11} {:>10} {:>5}  running", "worker", "processes", "tasks", "busy", "use")?;
        for (place, worker) in self.workers.iter().enumerate() {
            let WorkerReport { processes, tasks, .. } = worker;
            let (busy, used) = (Short(worker.busy), 100.0 * worker.utilisation());
            write!(f, "{place:>6} {processes:>9} {tasks:>11} {busy:>10} {used:>3.0} %")?;
            worker.running.map_or(Ok(()), |task| write!(f, "  {task}"))?;
            writeln!(f)?;
        }
        writeln!(f, "\n{:>11} {:>9} {:>10} {:>10} {:>10}  function", "tasks", "failed", "mean", "longest", "total")?;
        for function in &self.functions {
            let FunctionReport { name, tasks, failed, total, longest } = function;
            let (mean, longest, total) = (Short(function.mean()), Short(*longest), Short(*total));
            writeln!(f, "{tasks:>11} {failed:>9} {mean:>10} {longest:>10} {total:>10}  {name}")?;
        }
        writeln!(f, "\n{:>10} {:>6}  slowest tasks", "took", "worker")?;
        for SlowTask { took, task, worker, fate } in &self.slowest {
            write!(f, "{:>10} {worker:>6}  {task}", Short(*took))?;
            fate.as_ref().map_or(Ok(()), |fate| write!(f, ": {fate}"))?;
            writeln!(f)?;
        }
        if !self.ends.is_empty() {
            writeln!(f, "\n{:>10} {:>6} {:>10} {:>9}  ended workers", "at", "worker", "pid", "after")?;
        }
        for end in &self.ends {
            let (at, after) = (Short(end.ended), Short(end.ended.saturating_sub(end.started)));
            writeln!(f, "{at:>10} {:>6} {:>10} {after:>9}  {}", end.number, end.pid, end.why())?;
        }
        Ok(())
    }
}

impl Report {
    fn summary(&self) -> String {
        let Stats { done, crashed, lost, timed_out, out_of_memory, cancelled, recycled, .. } = self.stats;
        let mut text = format!("{done} tasks done in {}", Short(self.elapsed));
        let counts = [
            (crashed, "crashed"),
            (lost, "workers lost"),
            (timed_out, "timed out"),
            (out_of_memory, "out of memory"),
            (cancelled, "cancelled"),
            (recycled, "workers recycled"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {what}");
        }
        text
    }
}

impl FunctionReport {
    /// How long a task took on average.
    pub fn mean(&self) -> Duration {
        self.total / u32::try_from(self.tasks.max(1)).unwrap_or(u32::MAX)
    }
}

impl WorkerEnd {
    /// The recorder adds the place and the times.
    pub(crate) fn new(number: usize, pid: u32, reason: String, failed: bool, task: Option<TaskName>) -> Self {
        let (started, ended) = (Duration::ZERO, Duration::ZERO);
        Self { number, place: 0, pid, started, ended, reason, failed, task }
    }

    fn why(&self) -> String {
        self.task.map_or(self.reason.clone(), |task| format!("{}, in {task}", self.reason))
    }
}

/// A duration with three digits.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (value, unit) = match seconds {
            _ if seconds >= 1.0 => (seconds, "s"),
            _ if seconds >= 1e-3 => (seconds * 1e3, "ms"),
            _ if seconds >= 1e-6 => (seconds * 1e6, "µs"),
            _ => (seconds * 1e9, "ns"),
        };
        let digits = if value >= 100.0 { 0 } else { 2 - usize::from(value >= 10.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}
