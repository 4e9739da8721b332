//! What runs in a worker process.

mod end;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mp_core::process_fn;
use mp_core::raw::{LargeMessages, Outcome, RawFunction, error_chain, forks, ignore_interrupts};

use crate::error::TaskError;
use crate::packed::{self, HEADER, Kind};
use crate::settings::{Initializer, Setup};
pub(crate) use end::WorkerLink;
use end::{Item, WorkerEnd};

impl Initializer {
    fn run(self) -> Result<(), String> {
        let Some(call) = Arc::into_inner(self.call.0) else { return Ok(()) };
        let outcome = call.run();
        let result = if self.can_fail { outcome.decode::<Result<(), String>>() } else { outcome.decode().map(Ok) };
        result.map_err(|error| error_chain(&TaskError::from(error)))?
    }
}

/// When the task that runs is going to be killed.
static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// Returns when the task that this worker runs is going to be killed, if it has a time limit.
///
/// A task can look at it to stop in time with what it has. It is a property of the process, so any
/// of its threads can ask. Outside a task of a pool, and without
/// [`task_timeout`](crate::PoolBuilder::task_timeout) or
/// [`TaskOptions::timeout`](crate::TaskOptions::timeout), it is `None`.
///
/// The pool kills the worker a little later than this, never earlier.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use mp_core::process_fn;
/// use mp_pool::Pool;
///
/// #[process_fn]
/// fn improve(mut guess: f64, number: f64) -> f64 {
///     let stop = mp_pool::deadline().map(|deadline| deadline - Duration::from_millis(1500));
///     while stop.is_none_or(|stop| Instant::now() < stop) {
///         guess = (guess + number / guess) / 2.0;
///     }
///     guess
/// }
///
/// let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(2)).build()?;
/// assert!((pool.submit(improve::call(1.0, 2.0)).join()? - 2f64.sqrt()).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn deadline() -> Option<Instant> {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs tasks one after another until the pool says to end, or is gone.
#[process_fn]
pub(crate) fn worker(link: WorkerLink, setup: Setup) {
    if setup.ignore_interrupts {
        ignore_interrupts();
    }
    let mut link = link.open();
    if let Some(Err(why)) = setup.initializer.map(Initializer::run) {
        link.not_ready(why);
    }
    link.ready();
    work(&mut link)
}

fn work(link: &mut WorkerEnd) -> ! {
    let before = forks();
    let mut function = Err(String::new());
    let mut limit = None;
    let mut entry = Vec::with_capacity(64);
    let large = LargeMessages::default();
    let large = Some(&large);
    loop {
        let item = link.next();
        let run = match &item {
            Item::Function => {
                (function, limit) = find(link.bytes());
                continue;
            }
            Item::Inline(run) | Item::Message(_, run) => *run,
        };
        if let Some(limit) = limit {
            set_deadline(Instant::now().checked_add(limit));
        }
        entry.extend_from_slice(&[0; HEADER]);
        let outcome = match (item, &function) {
            (Item::Message(Err(why), _), _) => {
                link.answer_unreadable(run, &why, &mut entry);
                continue;
            }
            (Item::Inline(_), Ok(function)) => function.run_bytes(link.bytes(), &mut entry, packed::MOST, large),
            (Item::Message(Ok(message), _), Ok(function)) => {
                function.run_message(message, &mut entry, packed::MOST, large)
            }
            (_, Err(name)) => Some(Outcome::UnknownFunction(name.clone())),
            (Item::Function, _) => None,
        };
        if limit.is_some() {
            set_deadline(None);
        }
        if forks() != before {
            // The function has forked, and this is the copy. The call is the original's to answer.
            std::process::exit(0);
        }
        packed::finish(&mut entry, Kind::Value);
        link.answer(run, outcome, &mut entry);
    }
}

fn set_deadline(deadline: Option<Instant>) {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
}

/// Finds the function that an entry names, behind its time limit.
fn find(bytes: &[u8]) -> (Result<RawFunction, String>, Option<Duration>) {
    let (limit, name) = bytes.split_at(HEADER.min(bytes.len()));
    let limit = u64::from_le_bytes(limit.try_into().unwrap_or_default());
    let name = String::from_utf8_lossy(name);
    let function = RawFunction::find(&name).ok_or_else(|| name.into_owned());
    (function, (limit > 0).then(|| Duration::from_nanos(limit)))
}
