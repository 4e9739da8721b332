//! The server: its threads.
//!
//! One thread at a time leads: it waits for the descriptors of all clients and objects, and serves
//! what arrives. It also runs the functions of the user's, and another thread takes the lead from
//! it while it does. But waking a thread takes longer than a short function. So while functions
//! are short, an idle thread only watches the leader: it looks once in a millisecond, and takes the
//! lead if the same function still runs. Otherwise the leader offers the lead when the function
//! begins.
//!
//! | a thread is | left by |
//! |---|---|
//! | leading | a function has to run, and a thread is idle: to leading, with a function |
//! | leading, with a function | the function returns: to leading. Another one took the lead: to running |
//! | running a function | the function returns: to the next function, or to idle |
//! | idle | it takes the lead: to leading. Nothing to do for a while: gone |
//!
//! 1. Exactly one thread leads or is about to, until the server ends. `turn` is odd while the
//!    leader runs a function. Whoever makes it even again has the lead: the leader or another one.
//! 2. There are at most `threads` threads and one. If all are busy, functions wait in a queue, and
//!    clients with too many unanswered calls are not read.
//! 3. A thread that has run a function serves what waited for that, and wakes the leader if it
//!    leaves functions, timers or something to bury behind.
//! 4. All state is under one lock, which no thread holds while it waits or runs a function.
//! 5. The leader runs a function only if a thread is idle, and offers it the lead if it does not
//!    watch. `turn` becomes odd under the lock under which that thread would leave, or stop to
//!    watch.
//! 6. A thread that finds no function to run counts as idle before any other thread sees the state.
//!    So a function that finds no idle thread is found by a thread that is busy, or, if none can
//!    be started, by the leader a moment later.
//! 7. Answers that are ready at the same time are sent together: before the leader waits or offers
//!    the lead, and after a function that was not short.
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
    /// Odd while the lead can be taken.
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
    /// In this turn, a thread that is idle takes the lead at once.
    offered: u64,
    /// One of those that are idle watches the leader.
    watched: bool,
    ended: bool,
}

/// The numbers under which the set reports what there is one of. Others end in the bits of
/// [`state::CLIENT`] or [`LEASE`](crate::value::LEASE).
const DOOR: u64 = 0;
const STOP: u64 = 1;
const WAKE: u64 = 4;

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
            // The first thread takes the lead as any other.
            turn: AtomicU64::new(1),
            shortness: Spins::new(),
            threads: Mutex::new(Threads { offered: 1, ..Threads::default() }),
            changed: Condvar::new(),
            // One thread leads.
            most: limits.threads.max(1) + 1,
        });
        server.start_thread(&mut lock(&server.threads))?;
        Ok(server)
    }

    /// Waits until the server has ended: it has no client and no object.
    pub(crate) fn wait(&self) {
        let mut threads = lock(&self.threads);
        while !threads.ended {
            threads = self.changed.wait(threads).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts a thread, which counts as idle.
    fn start_thread(self: &Arc<Self>, threads: &mut Threads) -> io::Result<()> {
        let server = Arc::clone(self);
        thread::Builder::new().name("mp-manager".to_owned()).spawn(move || server.work())?;
        threads.all += 1;
        threads.idle += 1;
        Ok(())
    }

    fn work(self: Arc<Self>) {
        while self.idle() {
            if !self.lead() {
                lock(&self.threads).ended = true;
                return self.changed.notify_all();
            }
            self.run_what_waits();
        }
    }

    /// Runs functions until none waits. Then this thread counts as idle, before the lock of the
    /// state is released, so a leader that finds no idle thread knows that one will look for what
    /// waits.
    fn run_what_waits(&self) {
        loop {
            let mut state = lock(&self.state);
            let buries = state.send_answers();
            let job = state.jobs.pop_front();
            if job.is_none() {
                lock(&self.threads).idle += 1;
            }
            let more = buries || !state.jobs.is_empty() || state.pause().is_some();
            drop(state);
            if more {
                // It fails only if the leader has been woken very often and will be awake.
                let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
            }
            match job {
                Some(job) => self.run(job),
                None => return,
            }
        }
    }

    fn run(&self, job: Job) {
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
    }

    /// Lets idle threads take the lead while this one runs a function; `None` if there are none and
    /// none can be had.
    fn begin_turn(self: &Arc<Self>, offers: bool) -> Option<u64> {
        let mut threads = lock(&self.threads);
        if threads.idle == 0 && (threads.all >= self.most || self.start_thread(&mut threads).is_err()) {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        if offers || !threads.watched {
            threads.offered = turn;
            self.changed.notify_all();
        }
        Some(turn)
    }

    /// Makes an odd turn even; false if another one was faster.
    fn take_turn(&self, turn: u64) -> bool {
        self.turn.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Waits until this thread, which counts as idle, has taken the lead; false if it is not
    /// needed.
    fn idle(&self) -> bool {
        let mut threads = lock(&self.threads);
        let mut watches = !threads.watched;
        threads.watched = true;
        let (mut seen, mut quiet, mut late) = (self.turn.load(Ordering::SeqCst), 0, false);
        let leads = loop {
            let turn = self.turn.load(Ordering::SeqCst);
            let same = late && turn == seen;
            if turn % 2 == 1 && (threads.offered == turn || watches && same) && self.take_turn(turn) {
                break true;
            }
            if threads.ended || late && !watches {
                break false;
            }
            if late {
                quiet = if same { quiet + 1 } else { 0 };
                seen = turn;
                if quiet >= QUIET && turn % 2 == 0 {
                    (watches, threads.watched) = (false, false);
                }
            }
            let pause = if watches { TICK } else { IDLE };
            let waited = self.changed.wait_timeout(threads, pause).unwrap_or_else(PoisonError::into_inner);
            (threads, late) = (waited.0, waited.1.timed_out());
        };
        threads.idle -= 1;
        threads.watched &= !watches;
        if !leads {
            threads.all -= 1;
        }
        leads
    }

    /// Serves clients until another thread has taken the lead; false once the server has ended.
    fn lead(self: &Arc<Self>) -> bool {
        let mut events = Vec::with_capacity(256);
        let mut spin = self.spins.wait(false);
        loop {
            let mut state = lock(&self.state);
            state.give_up();
            state.bury();
            if !state.jobs.is_empty() {
                let offers = !self.shortness.is_due();
                if offers {
                    state.send_answers();
                }
                if let Some(turn) = self.begin_turn(offers) {
                    // Taken under the lock under which it was seen.
                    let job = state.jobs.pop_front();
                    drop(state);
                    job.into_iter().for_each(|job| self.run(job));
                    if !self.take_turn(turn) {
                        return true;
                    }
                    continue;
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
                    return false;
                }
                if number == WAKE {
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
                state.serve(number, event.flags);
            }
            state.retry();
        }
    }
}
