//! Decides which worker runs which call.
//!
//! | part | who touches it |
//! |---|---|
//! | [`State`], under one lock | everyone: submitting threads put calls in and send them to workers; whoever waits for results, or the supervisor, takes results |
//! | the supervisor, one thread | sleeps until a worker says something or ends, it is woken, or it is time for something |
//!
//! A call goes through these states:
//!
//! | state | where it stands | left by |
//! |---|---|---|
//! | queued | in a run of calls in the queue | being sent, cancelled, or forgotten with its map |
//! | sent | in a run of a worker's `sent`, from the worker's `claimed.next` on | being claimed by the worker, or taken back to the queue |
//! | running | first in the worker's `sent`, before `claimed.next` | its result; the worker's death |
//! | ended | nowhere | |
//!
//! 1. A call is in exactly one of them, and its sink is told exactly once.
//! 2. A worker claims a call by changing the word `claimed.next` from its number to the next one,
//!    and publishes its result before it claims another. So at most one call of a worker is
//!    running: the first without a result, if `claimed.next` is beyond it. A worker's death costs
//!    that one call. What is behind it was not begun and goes back to the queue; what is before it
//!    has results, which stand in shared memory and are read before the worker is buried.
//! 3. Calls are taken back by lowering `claimed.end`, from the last one on. The worker is then
//!    fenced: it is sent nothing until it has done what it kept, when the numbers go on behind
//!    those that were taken back. So no number ever means two calls.
//! 4. A worker is killed for what a call does (its time, its memory, a cancellation) only after
//!    everything else was taken back from it, so nothing else can begin and be lost.
//! 5. What a worker says is checked against what it was sent. One that breaks the protocol is
//!    killed; the call that it was running fails, and nothing else does.
//! 6. A turn of the supervisor takes from each worker what one ring holds and a limited number of
//!    packets, whatever they do.
//! 7. The locks of sinks are leaves: a thread that holds one takes no other. The user's code
//!    (wakers, callbacks) runs while no lock is held.
//!
//! How many calls are sent at once depends on how long they take: the pool measures each function,
//! and sends as many as fill [`state::SLICE`]. Calls of which it knows nothing are sent one by one.
//!
//! A worker that ends is replaced at once. If workers end before they have done anything, or cannot
//! be started, again and again, the pauses between tries grow, and after a number of failures in a
//! row the waiting calls fail. Another submission tries again, unless it was the initializer that
//! failed: then the pool is unusable.

mod delivery;
mod dispatch;
mod limits;
mod state;
mod supervisor;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use mp_core::raw::{Deadline, LargeMessages, Spins, forks};
use mp_core::{ProcessFn, SendErrorReason, Sender, pipe};

use crate::batch::Batch;
use crate::chunk::{Chunk, Function, Terms};
use crate::error::{PoolError, TaskError};
use crate::events::{Event, Events};
use crate::later::Later;
use crate::link::{Hosts, Start};
use crate::report::{Recorder, Report};
use crate::settings::Settings;
use crate::slot::Slot;
use crate::stats::Stats;
pub(crate) use state::SLICE;
use state::{Phase, State};
use supervisor::Supervisor;

/// What runs a pool. Code that has [workers elsewhere](Hosts) tells it here what they have sent.
pub struct Scheduler {
    state: Mutex<State>,
    /// Notified when the queue has become shorter, and when the last worker is gone.
    changed: Condvar,
    wake: Sender<()>,
    /// Whether looking for results before sleeping over them has paid.
    spins: Spins,
    functions: RwLock<HashMap<&'static str, Arc<Function>>>,
    /// The memory of long arguments.
    large: LargeMessages,
    callbacks: OnceLock<mpsc::Sender<Later>>,
    terms: Terms,
    workers: AtomicUsize,
    forks: u32,
}

impl Scheduler {
    /// Starts the workers and the supervisor.
    pub(crate) fn start(
        settings: Settings,
        workers: usize,
        hosts: Option<Arc<dyn Hosts>>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), PoolError> {
        let forks = forks();
        let (wake, woken) = pipe().map_err(PoolError::Io)?;
        let settings = Arc::new(settings);
        let (terms, name) = (settings.terms, format!("mp-pool {}", settings.name));
        let events = Arc::new(Events::new().map_err(PoolError::Io)?);
        events.add(&woken, Event::Woken).map_err(PoolError::Io)?;
        let mut state = State::new(Arc::clone(&settings), workers, hosts.clone());
        let start = Start { settings, hosts, events };
        for _ in 0..workers {
            let (number, place) = state.next_worker();
            let link = start.start(number, place).map_err(PoolError::Spawn)?;
            state.add(link, number, place);
        }
        let scheduler = Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            wake,
            spins: Spins::new(),
            functions: RwLock::default(),
            large: LargeMessages::default(),
            callbacks: OnceLock::new(),
            terms,
            workers: AtomicUsize::new(workers),
            forks,
        });
        let supervisor = Supervisor { scheduler: Arc::clone(&scheduler), woken, start };
        let thread = std::thread::Builder::new().name(name).spawn(move || supervisor.run()).map_err(PoolError::Io)?;
        Ok((scheduler, thread))
    }

    /// Whether this process is a copy, made by `fork`, of the one that has the pool. It has neither
    /// the supervisor nor, maybe, the thread that holds the lock.
    pub(crate) fn is_copy(&self) -> bool {
        forks() != self.forks
    }

    pub(crate) fn large(&self) -> &LargeMessages {
        &self.large
    }

    /// What holds for a call unless something else is said.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn function<F: ProcessFn>(&self) -> Arc<Function> {
        let known = self.functions.read().unwrap_or_else(PoisonError::into_inner).get(F::ID).cloned();
        known.unwrap_or_else(|| {
            let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
            let id = functions.len();
            Arc::clone(functions.entry(F::ID).or_insert_with(|| Arc::new(Function::new(F::NAME, F::ID, id))))
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the user's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and does afterwards what has to be done without the lock.
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let waiting = state.queue.len();
        let result = change(&mut state);
        let later = std::mem::take(&mut state.later);
        let wake = std::mem::take(&mut state.wants_supervisor);
        let shorter = state.waiters > 0 && state.queue.len() < waiting;
        drop(state);
        if wake {
            self.wake();
        }
        if shorter {
            self.changed.notify_all();
        }
        for later in later {
            self.run_later(later);
        }
        result
    }

    /// Runs code of the user's: callbacks on a thread for them.
    pub(crate) fn run_later(&self, later: Later) {
        if let Later::Wake(_) = later {
            return later.run();
        }
        let callbacks = self.callbacks.get_or_init(|| {
            let (sender, receiver) = mpsc::channel::<Later>();
            let run = move || receiver.into_iter().for_each(Later::run);
            // Without a thread the receiver is gone.
            let _ = std::thread::Builder::new().name("mp-pool callbacks".to_owned()).spawn(run);
            sender
        });
        if let Err(mpsc::SendError(later)) = callbacks.send(later) {
            later.run();
        }
    }

    /// Has the pool look at links that have news or whose workers have ended.
    pub fn wake(&self) {
        while let Err(error) = self.wake.try_send(()) {
            match error.reason {
                // If there is no room it has not seen the last ones yet, and will.
                SendErrorReason::Full | SendErrorReason::Disconnected => return,
                // The kernel has no memory for a packet of nothing.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Takes calls in, and sends some to workers that can do with them.
    pub(crate) fn submit(&self, chunk: Arc<Chunk>) {
        if self.is_copy() {
            let run = chunk.whole();
            return run.fail(&TaskError::Forked).into_iter().for_each(|later| self.run_later(later));
        }
        self.with(|state| state.submit(chunk.whole()));
    }

    /// Removes the calls of a dropped map from the queue.
    pub(crate) fn forget(&self, batch: &Batch) {
        batch.forget();
        if !self.is_copy() {
            self.with(State::take_back_forgotten);
        }
    }

    /// Has the pool take results that a link was [asked to wake it for](crate::raw::Link).
    pub fn receive(&self) {
        self.with(State::receive_all);
    }

    /// Goes on with the places that are left of so many, because a host was lost.
    pub fn lost(&self, places: usize, left: usize) {
        let target = self.with(|state| state.lose(places, left));
        self.workers.store(target, Ordering::Relaxed);
    }

    /// Tells whether there are calls that have not ended.
    pub fn is_busy(&self) -> bool {
        !self.lock().is_drained()
    }

    pub(crate) fn cancel(&self, slot: &Arc<Slot>) -> bool {
        !self.is_copy() && self.with(|state| state.cancel(slot))
    }

    /// Looks for results as long as `goes_on`, unless that does not pay or another thread does it.
    pub(crate) fn look_while(&self, deadline: Deadline, goes_on: impl Fn() -> bool) {
        if !goes_on() {
            return;
        }
        let mut wait = self.spins.wait(!deadline.is_now());
        if wait.sleeps() || !self.with(State::begin_looking) {
            return;
        }
        let looking = Looking(self);
        while goes_on() {
            self.with(State::receive_all);
            if goes_on() {
                wait.in_vain();
            }
            if wait.sleeps() || deadline.has_passed() {
                break;
            }
        }
        if !goes_on() {
            wait.found();
        }
        drop(looking);
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.is_copy() { Stats::default() } else { self.lock().stats() }
    }

    pub(crate) fn report(&self) -> Report {
        if self.is_copy() { Recorder::new().report(Stats::default(), Vec::new()) } else { self.with(State::report) }
    }

    pub(crate) fn resize(&self, workers: usize) {
        if !self.is_copy() {
            self.with(|state| state.resize(workers));
            self.workers.store(workers, Ordering::Relaxed);
        }
    }

    /// Waits until fewer than `most` calls are in the queue, or the pool is closed.
    pub(crate) fn wait_until_below(&self, most: usize) {
        if self.is_copy() {
            return;
        }
        let mut state = self.lock();
        while most > 0 && state.queue.len() >= most && state.phase == Phase::Open {
            state.waiters += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
    }

    pub(crate) fn close(&self) {
        self.end(Phase::Closed);
    }

    pub(crate) fn terminate(&self) {
        self.end(Phase::Terminated);
    }

    fn end(&self, phase: Phase) {
        if self.is_copy() {
            return;
        }
        let mut state = self.lock();
        if state.phase < phase {
            state.phase = phase;
            drop(state);
            self.changed.notify_all();
            self.wake();
        }
    }

    /// Waits until the supervisor has ended, and no worker is left.
    pub(crate) fn wait_until_gone(&self) {
        if self.is_copy() {
            return;
        }
        let mut state = self.lock();
        while state.phase != Phase::Gone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A thread looks for results, so workers need not wake the supervisor.
struct Looking<'a>(&'a Scheduler);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.with(State::end_looking);
    }
}
