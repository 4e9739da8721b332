//! The thread that waits for all tasks.
//!
//! | a waiter | is | left by |
//! |---|---|---|
//! | new | a future that has not been polled | its first poll: to listed |
//! | listed | in the list of its descriptor, with its waker | the next event of that descriptor: to woken; dropping the future |
//! | woken | no longer listed | its next poll, which is ready |
//!
//! A descriptor is in the epoll set from the first time that a task waits for it until it is
//! closed.
//!
//! 1. An event disarms its descriptor (`EPOLLONESHOT`) and wakes all its listed waiters, whatever
//!    they wait for. A waiter that has to wait again arms it again, for everything that the listed
//!    waiters wait for. So only descriptors with waiters are armed. No event between trying an
//!    operation and waiting is lost, because arming reports the current state and not only changes.
//! 2. Being ready is a hint: the task tries the operation, and may have to wait again.
//! 3. A descriptor is removed from the set before it is closed, because a duplicate elsewhere would
//!    keep it in the set. Each waiter owns a reference to it, so no waiter is listed then.
//! 4. Wakers run code of other crates, so they are never called, cloned or dropped under the lock.
//! 5. No descriptor is made non-blocking, because other processes share that property of the open
//!    file.
//!
//! 6. The set and the thread are of one process. A copy of it, made by `fork`, begins with a set of
//!    its own, and never changes that of its original, which both have open. A number says of
//!    which of the two it is.
//!
//! The first wait makes the set and the thread, which then stay. If that fails, the wait fails, and
//! the next one tries again.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::sys::fd::above_standard_streams;
use crate::sys::fork::{PerProcess, forks};
use crate::sys::signals;

/// What a waiter waits for. Each of these includes errors and the end of the peer.
#[derive(Clone, Copy)]
pub(crate) enum Interest {
    Read,
    Write,
    HangUp,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::HangUp => EventFlags::empty(),
        }
    }
}

struct Reactor {
    epoll: OwnedFd,
    waiters: Mutex<Waiters>,
}

/// All waiters, by the numbers of their descriptors in the set.
struct Waiters {
    /// The last number given to a descriptor or a waiter: see [`first_number`].
    last: u64,
    listed: HashMap<u64, Vec<Waiter>>,
}

struct Waiter {
    number: u64,
    interest: Interest,
    waker: Waker,
}

impl Waiters {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn of(&mut self, source: &Source) -> Option<&mut Vec<Waiter>> {
        self.listed.get_mut(&source.key()?)
    }
}

/// Below the numbers of this process. A copy has others, unless it is the 2^24th.
fn first_number() -> u64 {
    u64::from(forks()) << NUMBERS
}

/// How many bits of a number count the descriptors and waiters of one process.
const NUMBERS: u32 = 40;

fn is_of_this_process(number: u64) -> bool {
    number >> NUMBERS == first_number() >> NUMBERS
}

#[derive(Default)]
struct Running {
    starting: Mutex<()>,
    reactor: OnceLock<Arc<Reactor>>,
}

static RUNNING: PerProcess<Running> = PerProcess::new(Running::default);

fn running() -> Option<&'static Arc<Reactor>> {
    RUNNING.get().reactor.get()
}

/// Returns the reactor, and starts it if this is the first time.
fn reactor() -> io::Result<&'static Reactor> {
    let Running { starting, reactor: running } = RUNNING.get();
    if let Some(reactor) = running.get() {
        return Ok(reactor);
    }
    let _starting = starting.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reactor) = running.get() {
        return Ok(reactor);
    }
    let epoll = above_standard_streams(epoll::create(CreateFlags::CLOEXEC)?)?;
    let reactor =
        Arc::new(Reactor { epoll, waiters: Mutex::new(Waiters { last: first_number(), listed: HashMap::new() }) });
    let runs = Arc::clone(&reactor);
    signals::spawn_without_signals("mp-core reactor", move || runs.run())?;
    Ok(running.get_or_init(|| reactor))
}

impl Reactor {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            events.clear();
            // The call is interrupted if the process is stopped and continued. It has no other
            // error, because the set and the buffer are valid.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            for event in &events {
                let key = event.data.u64();
                let woken = self.lock().listed.get_mut(&key).map(mem::take).unwrap_or_default();
                for waiter in woken {
                    // A panic of a waker concerns only its own task.
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| waiter.waker.wake()));
                }
            }
        }
    }

    /// Lists a waiter, and arms its descriptor.
    fn list(&self, source: &Source, interest: Interest, waker: Waker) -> io::Result<u64> {
        let mut waiters = self.lock();
        let number = waiters.number();
        let flags = |flags: EventFlags| flags | EventFlags::ONESHOT;
        let Some(key) = source.key() else {
            epoll::add(&self.epoll, &source.fd, EventData::new_u64(number), flags(interest.flags()))?;
            // The lock is held, so no other thread registers the descriptor at the same time.
            source.key.store(number, Ordering::Relaxed);
            waiters.listed.insert(number, vec![Waiter { number, interest, waker }]);
            return Ok(number);
        };
        let listed = waiters.listed.entry(key).or_default();
        let all = listed.iter().fold(interest.flags(), |all, waiter| all | waiter.interest.flags());
        epoll::modify(&self.epoll, &source.fd, EventData::new_u64(key), flags(all))?;
        listed.push(Waiter { number, interest, waker });
        Ok(number)
    }

    /// Tells whether a waiter is still listed, and if so, replaces its waker by `waker`.
    fn is_listed(&self, source: &Source, number: u64, mut waker: Waker) -> bool {
        let mut waiters = self.lock();
        let listed = waiters.of(source).and_then(|listed| listed.iter_mut().find(|waiter| waiter.number == number));
        let found = listed.map(|waiter| mem::swap(&mut waiter.waker, &mut waker)).is_some();
        drop(waiters);
        drop(waker);
        found
    }

    fn deregister(&self, source: &Source, number: u64) {
        let mut waiters = self.lock();
        let waiter = waiters.of(source).and_then(|listed| {
            let place = listed.iter().position(|waiter| waiter.number == number)?;
            Some(listed.swap_remove(place))
        });
        drop(waiters);
        drop(waiter);
    }
}

const NO_KEY: u64 = 0;

/// A descriptor that can be waited for.
pub(crate) struct Source {
    fd: OwnedFd,
    /// Its number in the set, once it is in the set. It changes under the lock of the waiters.
    key: AtomicU64,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, key: AtomicU64::new(NO_KEY) }
    }

    /// Returns its number in the set of this process.
    fn key(&self) -> Option<u64> {
        let key = self.key.load(Ordering::Relaxed);
        (key != NO_KEY && is_of_this_process(key)).then_some(key)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let (Some(key), Some(reactor)) = (self.key(), running()) else { return };
        // The descriptor is in the set, so this call does not allocate and cannot fail.
        let _ = epoll::delete(&reactor.epoll, &self.fd);
        let none = reactor.lock().listed.remove(&key);
        drop(none);
    }
}

/// The future of [`PollableFd::readable`](crate::raw::PollableFd::readable) and
/// [`writable`](crate::raw::PollableFd::writable).
///
/// It fails if the thread that waits for all tasks cannot be started, or if the operating system
/// cannot wait.
#[must_use = "futures do nothing unless polled"]
pub struct Readiness {
    source: Arc<Source>,
    interest: Interest,
    /// The number under which it was listed.
    number: Option<u64>,
}

impl Readiness {
    pub(crate) fn new(source: &Arc<Source>, interest: Interest) -> Self {
        Self { source: Arc::clone(source), interest, number: None }
    }
}

impl Future for Readiness {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reactor = reactor()?;
        let waker = context.waker().clone();
        match self.number.filter(|number| is_of_this_process(*number)) {
            None => self.number = Some(reactor.list(&self.source, self.interest, waker)?),
            Some(number) if reactor.is_listed(&self.source, number, waker) => {}
            Some(_) => return Poll::Ready(Ok(())),
        }
        Poll::Pending
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if let (Some(number), Some(reactor)) = (self.number, running()) {
            reactor.deregister(&self.source, number);
        }
    }
}
