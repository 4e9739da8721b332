//! The server: its threads.
//!
//! One thread at a time leads: it waits for the descriptors of all clients and objects, and serves
//! what arrives. Before it runs a function of the user's, it makes another thread the leader. But
//! waking a thread takes longer than a short function. So while functions are short, the leader
//! runs them itself, and an idle thread watches it: it looks once in a millisecond, and takes the
//! lead if the same function still runs.
//!
//! | a thread is | left by |
//! |---|---|
//! | leading | a function has to run that may be long: to running |
//! | leading, with a function | the function returns: to leading. The watcher took the lead: to running |
//! | running a function | the function returns: to the next function, or to idle |
//! | idle | the lead is vacant: to leading. Nothing to do for a while: gone |
//! | idle and watching | it takes the lead: to leading. Nothing to watch for a while: to idle |
//!
//! 1. Exactly one thread leads or is about to, until the server ends. `turn` is odd while the
//!    leader runs a function. Whoever makes it even again has the lead: the leader or the watcher.
//! 2. There are at most `threads` threads. If all are busy, functions wait in a queue, and clients
//!    with too many unanswered calls are not read.
//! 3. A thread that has run a function serves what waited for that, and wakes the leader if it
//!    leaves functions, timers or something to bury behind.
//! 4. All state is under one lock, which no thread holds while it waits or runs a function.
//! 5. The leader runs a function itself only if a thread watches, and `turn` becomes odd under the
//!    lock under which that thread would stop to watch.
//! 6. A thread that finds no function to run counts as idle before any other thread sees the state.
//!    So a function that finds no idle thread is found by a thread that is busy, or, if none can
//!    be started, by the leader a moment later.
//! 7. Answers that are ready at the same time are sent together: before the leader waits or gives
//!    up the lead, and after a function that was not short.
//!
//! A process that dies leaves nothing in the server but what the kernel closes: the socket of its
//! connection, and its leases.

mod client;
mod content;
mod data;
mod job;
mod object;
mod requests;
mod state;
mod waiting;
mod watchers;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::raw::{Spins, above_standard_streams, catch_panic};
use mp_core::{Receiver, Sender};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use crate::mutex::lock;
use crate::value::Watch;
use crate::wire::ServersEnd;
use job::Job;
use state::State;

/// What can be set for a server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// How many threads run functions at once.
    pub(crate) threads: usize,
    /// How many calls of one client may be unanswered before its next ones stay unread.
    pub(crate) calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 64, calls: 1024 }
    }
}

/// How often a thread looks that watches the leader. A function that the leader runs holds up the
/// other clients for twice as long at most.
const TICK: Duration = Duration::from_millis(1);

/// After so many looks at nothing new, it stops to watch.
const QUIET: u32 = 20;

/// A function that takes longer does not pay for the leader.
const SHORT: Duration = Duration::from_micros(50);

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(2);

/// A server, which all its threads share.
pub(crate) struct Server {
    state: Mutex<State>,
    watch: Arc<Watch>,
    /// Wakes the leader, for what another thread has left for it.
    wake: OwnedFd,
    spins: Spins,
    turn: AtomicU64,
    /// Whether functions were short.
    shortness: Spins,
    threads: Mutex<Threads>,
    changed: Condvar,
    most: usize,
}

#[derive(Default)]
struct Threads {
    all: usize,
    idle: usize,
    /// A thread that is idle has to lead.
    vacant: bool,
    /// One of those that are idle watches the leader.
    watched: bool,
    ended: bool,
}

/// The numbers under which the set reports what there is one of. Others end in the bits of
/// [`state::CLIENT`] or [`LEASE`](crate::value::LEASE).
const DOOR: u64 = 0;
const STOP: u64 = 1;
const WAKE: u64 = 4;

/// What the leader has to do.
enum Next {
    Run(Job),
    /// The watcher leads now.
    Replaced,
    End,
}

impl Server {
    /// Starts a server. It ends when the other end of `stop` is closed.
    pub(crate) fn start(
        door: Receiver<ServersEnd>,
        way_in: Sender<ServersEnd>,
        stop: Receiver<()>,
        limits: Limits,
    ) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Watch::new()?);
        epoll::add(&watch.epoll, &door, EventData::new_u64(DOOR), EventFlags::IN)?;
        epoll::add(&watch.epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = above_standard_streams(wake)?;
        epoll::add(&watch.epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let state = State::new(door, way_in.as_fd().try_clone_to_owned()?, stop, Arc::clone(&watch), limits)?;
        let server = Arc::new(Self {
            state: Mutex::new(state),
            watch,
            wake,
            spins: Spins::new(),
            turn: AtomicU64::new(0),
            shortness: Spins::new(),
            threads: Mutex::default(),
            changed: Condvar::new(),
            // One thread leads.
            most: limits.threads.max(1) + 1,
        });
        server.start_thread()?;
        Ok(server)
    }

    /// Waits until the server has ended: it has no client and no object.
    pub(crate) fn wait(&self) {
        let mut threads = lock(&self.threads);
        while !threads.ended {
            threads = self.changed.wait(threads).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts a thread that leads.
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let server = Arc::clone(self);
        lock(&self.threads).all += 1;
        let started = thread::Builder::new().name("mp-manager".to_owned()).spawn(move || server.work());
        if started.is_err() {
            lock(&self.threads).all -= 1;
        }
        started.map(drop)
    }

    fn work(self: Arc<Self>) {
        loop {
            match self.lead() {
                Next::Run(job) => self.run(job),
                Next::Replaced => {}
                Next::End => {
                    let mut threads = lock(&self.threads);
                    threads.ended = true;
                    drop(threads);
                    return self.changed.notify_all();
                }
            }
            if !self.idle() {
                return;
            }
        }
    }

    /// Runs a function, and then what else waits to be run.
    fn run(&self, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next {
            let more;
            (next, more) = self.run_one(job, |state| {
                let buries = state.send_answers();
                let next = state.jobs.pop_front();
                if next.is_none() {
                    self.rest();
                }
                (next, buries || !state.jobs.is_empty() || state.pause().is_some())
            });
            if more {
                self.wake_leader();
            }
        }
    }

    /// Runs a function, and then calls `then`.
    fn run_one<R>(&self, job: Job, then: impl FnOnce(&mut State) -> R) -> R {
        let Job { client, call, object, work } = job;
        let begun = Instant::now();
        let ran = work();
        let short = begun.elapsed() < SHORT;
        self.shortness.note(short);
        let mut state = lock(&self.state);
        state.finish(client, call, object, ran);
        if !short {
            state.send_answers();
        }
        then(&mut state)
    }

    /// This thread has nothing to do. It counts as idle before the lock of the state is released,
    /// so a leader that finds no idle thread knows that one will look for what waits.
    fn rest(&self) {
        lock(&self.threads).idle += 1;
    }

    fn wake_leader(&self) {
        // It fails only if the leader has been woken very often and will be awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Begins a function that the leader runs itself; `None` if it should not.
    fn begin_as_leader(&self) -> Option<u64> {
        let threads = lock(&self.threads);
        let may = threads.watched && self.shortness.is_due();
        may.then(|| self.turn.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Makes an odd turn even; false if the other one was faster.
    fn take_turn(&self, turn: u64) -> bool {
        self.turn.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Waits until this thread, which counts as idle, has to lead; false if it is not needed.
    fn idle(&self) -> bool {
        let mut threads = lock(&self.threads);
        let mut watches = !threads.watched;
        threads.watched = true;
        let (mut seen, mut quiet) = (self.turn.load(Ordering::SeqCst), 0);
        let mut leads = false;
        while !threads.vacant && !threads.ended {
            let pause = if watches { TICK } else { IDLE };
            let waited = self.changed.wait_timeout(threads, pause).unwrap_or_else(PoisonError::into_inner);
            threads = waited.0;
            if !waited.1.timed_out() || threads.vacant {
                continue;
            }
            if !watches {
                break;
            }
            let turn = self.turn.load(Ordering::SeqCst);
            if turn % 2 == 1 && turn == seen && self.take_turn(turn) {
                leads = true;
                break;
            }
            quiet = if turn == seen { quiet + 1 } else { 0 };
            seen = turn;
            if quiet >= QUIET && turn % 2 == 0 {
                watches = false;
                threads.watched = false;
            }
        }
        threads.idle -= 1;
        if watches {
            threads.watched = false;
        }
        if leads {
            return true;
        }
        if threads.vacant && !threads.ended {
            threads.vacant = false;
            return true;
        }
        threads.all -= 1;
        false
    }

    /// Makes another thread the leader; false if there is none and none can be had.
    fn hand_over(self: &Arc<Self>) -> bool {
        let mut threads = lock(&self.threads);
        if threads.idle > 0 {
            threads.vacant = true;
            self.changed.notify_all();
            return true;
        }
        let room = threads.all < self.most;
        drop(threads);
        room && self.start_thread().is_ok()
    }

    /// Serves clients until a function has to be run, or the server ends.
    fn lead(self: &Arc<Self>) -> Next {
        let mut events = Vec::with_capacity(256);
        let mut spin = self.spins.wait(false);
        loop {
            let mut state = lock(&self.state);
            state.bury();
            if !state.jobs.is_empty() {
                if let Some(turn) = self.begin_as_leader() {
                    if let Some(job) = state.jobs.pop_front() {
                        drop(state);
                        self.run_one(job, |_| ());
                    }
                    if !self.take_turn(turn) {
                        self.rest();
                        self.wake_leader();
                        return Next::Replaced;
                    }
                    continue;
                }
                state.send_answers();
                if self.hand_over() {
                    // Taken under the same lock, so no other thread has taken it.
                    if let Some(job) = state.jobs.pop_front() {
                        return Next::Run(job);
                    }
                }
            }
            let buries = state.send_answers();
            if !buries && !spin.sleeps() && state.looks_at_one() {
                let found = state.look_at_one();
                drop(state);
                if found {
                    spin.found();
                    spin = self.spins.wait(true);
                } else {
                    spin.in_vain();
                }
                continue;
            }
            let pause = if buries || !spin.sleeps() { Some(Duration::ZERO) } else { state.pause() };
            drop(state);
            if self.watch.wait(&mut events, pause).is_err() {
                // It fails for lack of memory alone.
                thread::yield_now();
            }
            if events.is_empty() {
                spin.in_vain();
            } else {
                spin.found();
                spin = self.spins.wait(true);
            }
            let mut state = lock(&self.state);
            for event in &events {
                let number = event.data.u64();
                if number == STOP {
                    let (objects, jobs) = state.end();
                    drop(state);
                    // A `Drop` of the user's may panic.
                    objects.into_values().for_each(|object| drop(catch_panic(|| drop(object))));
                    jobs.into_iter().for_each(|job| drop(catch_panic(|| drop(job))));
                    return Next::End;
                }
                if number == WAKE {
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
                state.serve(number, event.flags);
            }
            state.retry();
            state.give_up();
        }
    }
}
